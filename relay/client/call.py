"""One call of a voice client, as a program sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from relay.client.description import Codec
from relay.client.errors import CallEnded
from relay.client.events import CallEvent, Ended, State
from relay.client.figures import Figures
from relay.client.playout import Playback
from relay.client.recording import RATE_HZ, Recording, Sound
from relay.client.session import Session
from relay.sip.uri import SipUri

MOST_SOUNDS = 500  # pieces that wait for a program that listens: 10 s


class Call:
    """A call, made by `Client.call` or come in by `Client.incoming`.

    Everything that waits raises CallEnded, or the Refused or MediaFailed that ended it, once
    the call is over. The call goes on when the client's connection is lost and comes back.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._media = session.media

    def __repr__(self) -> str:
        return f"<Call {self.state.value}>"  # who it is with stays out of logs

    @property
    def peer(self) -> str:
        """Who is called or calls: a number or an identity."""
        invite = self._session.invite
        if invite is None:
            return ""
        address = invite.from_ if self._session.incoming else invite.to
        uri = address.uri
        return (uri.user or uri.host) if isinstance(uri, SipUri) else str(uri)

    @property
    def incoming(self) -> bool:
        """Whether the other side called."""
        return self._session.incoming

    @property
    def state(self) -> State:
        return self._session.state

    @property
    def ended(self) -> Ended | None:
        """How it ended; None while it goes on."""
        return self._session.ended

    @property
    def on_hold(self) -> bool:
        """Whether we have put the other side on hold."""
        return self._session.midcall.on_hold

    @property
    def held_by_peer(self) -> bool:
        """Whether the other side has put us on hold."""
        return self._session.midcall.held_by_peer

    @property
    def codec(self) -> Codec | None:
        """What our voice is sent in, once audio flows."""
        return self._media.sending

    def events(self) -> AsyncIterator[CallEvent]:
        """Everything that happens to the call, until its `Ended`."""
        return self._session.events.listen()

    # --- from the first ring to the end ---------------------------------------------------

    async def ringing(self, timeout_s: float = 30.0) -> None:
        """Wait until the other side rings, or answers."""
        await self._session.until(lambda: self.state is not State.CALLING, timeout_s, "ringing")

    async def answered(self, timeout_s: float = 60.0) -> None:
        """Wait until the call is answered and audio flows. Raises Refused, MediaFailed."""
        await self._session.until(lambda: self.state is State.ANSWERED, timeout_s, "answer")
        await self._session.flowing()

    async def answer(self) -> None:
        """Take an incoming call; returns when audio flows. Raises CallEnded, MediaFailed."""
        await self._session.answer()

    async def reject(self, status: int = 486, reason: str | None = None) -> None:
        """Refuse an incoming call: 486 busy, 480 not available, 603 declined … Raises CallEnded."""
        self._session.reject(status, reason)

    async def hang_up(self) -> None:
        """End the call, in whatever state it is. Does nothing when it is over."""
        await self._session.hang_up()

    async def finished(self) -> Ended:
        """Wait until the call is over."""
        return await self._session.over()

    # --- speaking and listening -----------------------------------------------------------

    def play(self, path: str | Path, loop: bool = False) -> Playback:
        """Say an audio file (any that FFmpeg reads); `await` the result to wait for its end.

        What is played meanwhile comes after it. Raises CallEnded; awaiting raises ClientError
        for a file that cannot be read.
        """
        self._session.check_alive()
        playback = Playback(Path(path), loop)
        self._media.playout.play(playback)
        return playback

    def silence(self) -> None:
        """Stop what is being played, and what was to come after it."""
        self._media.playout.silence()

    @property
    def muted(self) -> bool:
        """Whether the other side hears silence from us; may be set."""
        return self._media.playout.muted

    @muted.setter
    def muted(self, value: bool) -> None:
        self._media.playout.muted = value

    def record(self, path: str | Path, rate_hz: int = RATE_HZ) -> Recording:
        """Write what is heard to a WAV file, until its `close()` or the end of the call.

        Raises CallEnded, OSError.
        """
        self._session.check_alive()
        recording = Recording(Path(path), rate_hz)
        self._media.hearing.listen(recording.write)
        self._session.at_end.append(recording.close)
        return recording

    async def audio(self) -> AsyncIterator[Sound]:
        """What is heard, piece by piece, until the end of the call."""
        queue: asyncio.Queue[Sound | None] = asyncio.Queue(MOST_SOUNDS)

        def hear(sound: Sound | None) -> None:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(sound)

        self._session.check_alive()
        self._media.hearing.listen(hear)
        self._session.at_end.append(lambda: hear(None))
        try:
            while (sound := await queue.get()) is not None:
                yield sound
        finally:
            self._media.hearing.unlisten(hear)

    async def send_dtmf(self, keys: str, duration_ms: int = 160) -> None:
        """Press keys (0-9 * # A-D); returns when they were sent.

        They are telephone events in the audio (RFC 4733), or SIP INFO (application/dtmf-relay)
        to a side that takes none. Raises ValueError, CallEnded, Refused.
        """
        self._session.check_alive()
        keypad = self._media.keypad
        if keypad is None:
            for key in keys:
                await self._session.midcall.press(key, duration_ms)
            return
        try:
            await keypad.press(keys, duration_ms)
        except asyncio.CancelledError:
            if self.ended is None:
                raise  # not the end of the call but of who waits
            raise CallEnded("the call ended before the keys were sent") from None

    # --- during the call ------------------------------------------------------------------

    async def hold(self) -> None:
        """Put the other side on hold. Raises Refused, CallEnded."""
        await self._session.midcall.hold(True)

    async def resume(self) -> None:
        """Take the other side off hold. Raises Refused, CallEnded."""
        await self._session.midcall.hold(False)

    async def restart_ice(self) -> None:
        """Make the audio's path anew (ICE restart), as after a change of network.

        A client does this by itself when its connection comes back from another address, and
        when the path is lost. Raises Refused, MediaFailed, CallEnded.
        """
        await self._session.midcall.restart_ice()

    async def figures(self) -> Figures:
        """How well the other side is heard, so far."""
        return await self._media.figures()
