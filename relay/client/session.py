"""The SIP side of one call: its dialog, offers and answers, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from secrets import token_hex
from typing import TYPE_CHECKING, Literal

from relay.client.agent import Exchange
from relay.client.description import Codec
from relay.client.errors import CallEnded, ClientError, MediaFailed, Refused, refusal
from relay.client.events import (
    Answered,
    CallEvent,
    Ended,
    KeyPressed,
    PathLost,
    Ringing,
    State,
)
from relay.client.feed import Feed
from relay.client.media import Media
from relay.client.midcall import Midcall
from relay.errors import MalformedSdp, NotAcceptable, RelayError
from relay.sip.dialog import Dialog
from relay.sip.message import Request, Response
from relay.sip.transaction import Transaction

if TYPE_CHECKING:
    from relay.client.line import Line

BYE_TIMEOUT_S = 5.0
SDP = "application/sdp"


class Session:
    """One call's dialog and media, on the line that it came or goes over."""

    def __init__(self, line: Line, codecs: tuple[Codec, ...] | None = None) -> None:
        self._line = line
        self._agent = line.agent
        self.tag = token_hex(6)
        self.state = State.CALLING
        self.ended: Ended | None = None
        self.incoming = False
        self.media = Media(self, codecs or line.codecs, line.addresses)
        self.midcall = Midcall(self, line)
        self.events: Feed[CallEvent] = Feed()
        self.at_end: list[Callable[[], None]] = []
        self.invite: Request | None = None
        self._changed = asyncio.Event()
        self._refusal: ClientError | None = None
        self.dialog: Dialog | None = None
        self._exchange: Exchange | None = None
        self._ack: Request | None = None
        self._cancelled = False
        self._invite_tx: Transaction | None = None  # theirs, until it has its final response
        self._closing: asyncio.Task[None] | None = None

    # --- waiting --------------------------------------------------------------------------

    def check_alive(self) -> None:
        """Raises what ended the call, CallEnded where it just ended."""
        if self.ended is not None:
            raise self._refusal or CallEnded(f"the call is over: {self.ended.reason}")

    async def until(self, reached: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait for a state. Raises what ended the call, Refused (408) at the deadline."""
        try:
            async with asyncio.timeout(timeout_s):
                while not reached():
                    self.check_alive()
                    await self._changed.wait()
        except TimeoutError:
            raise Refused(408, "Request Timeout", f"no {what} in {timeout_s:g} s") from None
        self.check_alive()

    async def over(self) -> Ended:
        """Wait until the call is over."""
        while self.ended is None:
            await self._changed.wait()
        return self.ended

    async def flowing(self) -> None:
        """Wait until audio flows; without it there is no call. Raises MediaFailed."""
        try:
            await self.media.started()
        except MediaFailed as error:
            await self.fail(error)
            raise

    async def fail(self, error: MediaFailed) -> None:
        """End the call for a reason that whoever waits is told."""
        self._refusal = error
        await self.hang_up()

    # --- what happens ---------------------------------------------------------------------

    def _move(self, state: State, event: CallEvent | None = None) -> None:
        self.state = state
        if event is not None:
            self.events.publish(event)
        self._changed.set()
        self._changed = asyncio.Event()

    def end(
        self,
        by: Literal["us", "peer", "relay"],
        status: int,
        reason: str,
        refused: ClientError | None = None,
    ) -> None:
        if self.state is State.ENDED:
            return
        self._refusal = refused or self._refusal
        self.ended = Ended(by, status, reason)
        self._move(State.ENDED, self.ended)
        self.events.end()
        if self.invite is not None:
            self._line.sessions.pop(self.invite.call_id, None)
        for leave in self.at_end:
            leave()
        self._closing = asyncio.create_task(self.media.close())

    def abandon(self, reason: str) -> None:
        """The relay cannot be reached: it has ended the call, too, or soon will."""
        self.end("relay", 408, reason)

    def reconnected(self, moved: bool) -> None:
        """The line is back; from another address, or without a path, the audio needs one."""
        if moved or not self.media.path_stands:
            self.midcall.find_path()

    def on_key(self, key: str, duration_ms: int) -> None:
        self.events.publish(KeyPressed(key, duration_ms))

    def on_path_lost(self) -> None:
        if self.state is State.ANSWERED:
            self.events.publish(PathLost())
            self.midcall.find_path()

    # --- a call of ours -------------------------------------------------------------------

    async def place(self, uri: str) -> None:
        """Send the INVITE."""
        body = await self.media.offer()
        invite = self._line.request("INVITE", uri, self.tag)
        self.add_body(invite, body)
        self.invite = invite
        self._exchange = Exchange(self._progressed, self._succeeded_again)
        self._line.sessions[invite.call_id] = self
        self._agent.start(invite, self._exchange)
        self._line.spawn(self._await_final(invite, self._exchange))

    def _progressed(self, response: Response) -> None:
        if self._cancelled and self._exchange is not None:
            self._agent.cancel(self._exchange)  # before any response it could not be sent
            return
        if response.status == 100 or self.state is State.ENDED:
            return
        early = self.media.theirs is None and response.content_type == SDP
        if early:
            try:
                self.media.take_answer(response.body)
            except RelayError:
                early = False  # the final one may be better
        if early or self.state is State.CALLING:
            self._move(State.RINGING, Ringing(early))

    async def _await_final(self, invite: Request, exchange: Exchange) -> None:
        try:
            response = await exchange.final
        except Refused as error:
            self.end("relay", error.status, error.reason, error)
            return
        if response.status >= 300:
            refused = refusal(response)
            self.end("peer", response.status, refused.text or response.reason, refused)
            return
        self.dialog = Dialog.uac(invite, response)
        self._succeeded_again(response)
        if self._cancelled:
            await self._say_bye(self.dialog)
            return
        try:
            if response.body or self.media.theirs is None:
                self.media.take_answer(response.body)
        except RelayError as error:
            await self.fail(MediaFailed(str(error)))
            return
        self._move(State.ANSWERED, Answered())

    def _succeeded_again(self, response: Response) -> None:
        """A 2xx, the first or a repeated one: it wants its ACK."""
        if self.dialog is not None and response.to.tag == self.dialog.remote_tag:
            if self._ack is None:
                self._ack = self.dialog.ack(response.cseq.number)
            self._agent.acknowledge(self._ack)

    # --- a call that came in --------------------------------------------------------------

    def ring(self, tx: Transaction, request: Request) -> None:
        """Their INVITE: they hear it ring until `answer` or `reject`. Raises MalformedMessage."""
        self.dialog = Dialog.uas(request, self.tag, self._line.contact)
        self.incoming = True
        self._invite_tx, self.invite = tx, request
        self._line.sessions[request.call_id] = self
        self._agent.respond(tx, self.response(request, 180))
        self._move(State.RINGING)

    async def answer(self) -> None:
        """Accept it. Raises CallEnded, MediaFailed."""
        tx, request = self._unanswered()
        try:
            if request.body:
                body = await self.media.answer(request.body)
            else:
                body, self.midcall.awaits_answer = await self.media.offer(), True
        except (NotAcceptable, MalformedSdp) as error:
            failure = MediaFailed(str(error))
            self._decline(tx, request, 488, None, failure)
            raise failure from None
        self._unanswered()  # it may have been cancelled meanwhile
        self._invite_tx = None
        self._move(State.ANSWERED, Answered())
        self.midcall.accept(tx, request, body)
        if self.midcall.awaits_answer:
            await self.midcall.acknowledged()
        await self.flowing()

    def reject(self, status: int, reason: str | None) -> None:
        """Refuse it. Raises CallEnded."""
        tx, request = self._unanswered()
        self._decline(tx, request, status, reason, None)

    def _unanswered(self) -> tuple[Transaction, Request]:
        self.check_alive()
        if self._invite_tx is None or self.invite is None:
            raise CallEnded("there is nothing to answer: we called, or have answered already")
        return self._invite_tx, self.invite

    def _decline(
        self,
        tx: Transaction,
        request: Request,
        status: int,
        reason: str | None,
        failure: ClientError | None,
    ) -> None:
        response = self.response(request, status, reason)
        if failure is not None:
            response.headers.add("Warning", f'399 client "{failure}"')
        self._invite_tx = None
        self._agent.respond(tx, response)
        self.end("us", status, reason or str(failure or response.reason), failure)

    def cancelled_by_peer(self) -> None:
        """Their CANCEL."""
        if self._invite_tx is not None and self.invite is not None:
            tx, self._invite_tx = self._invite_tx, None
            self._agent.respond(tx, self.response(self.invite, 487))
            self.end("peer", 487, "cancelled")

    # --- the end, by us -------------------------------------------------------------------

    async def hang_up(self) -> None:
        """End the call in whatever state it is; returns when its audio is closed."""
        if self._invite_tx is not None:
            self.reject(603, None)
        elif self.state is State.ANSWERED and self.dialog is not None:
            self.end("us", 200, "hung up")
            await self._say_bye(self.dialog)
        elif self.state is not State.ENDED:
            self._cancelled = True
            if self._exchange is not None:
                self._agent.cancel(self._exchange)
            self.end("us", 487, "cancelled")
        if self._closing is not None:
            await self._closing

    async def _say_bye(self, dialog: Dialog) -> None:
        try:
            await asyncio.wait_for(self._agent.ask(dialog.request("BYE")), BYE_TIMEOUT_S)
        except (Refused, TimeoutError):
            pass  # the other side notices that the audio has ended

    # --- messages -------------------------------------------------------------------------

    def add_body(self, message: Request | Response, body: bytes) -> None:
        if "Contact" not in message.headers:
            message.headers.add("Contact", self._line.contact)
        if body:
            message.headers.add("Content-Type", SDP)
            message.body = body

    def response(
        self, request: Request, status: int, reason: str | None = None, body: bytes = b""
    ) -> Response:
        response = request.response(status, reason, self.tag)
        if status < 300:
            self.add_body(response, body)
        return response
