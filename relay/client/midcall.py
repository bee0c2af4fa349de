"""Inside the dialog of an answered call: hold, keys, another path, signs of life.

Their requests are answered and ours sent. A 2xx of ours to an INVITE, the first one too, is
repeated here until it is acknowledged.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING

from relay.client.agent import Exchange
from relay.client.errors import CallEnded, ClientError, MediaFailed, refusal
from relay.client.events import Held, KeyPressed, PathRestored, Resumed, State
from relay.errors import MalformedSdp, NotAcceptable, OutOfOrder, RelayError
from relay.sip.dtmf_info import pressed
from relay.sip.message import Request, Response
from relay.sip.timers import Timers
from relay.sip.transaction import State as TxState
from relay.sip.transaction import Transaction

if TYPE_CHECKING:
    from relay.client.line import Line
    from relay.client.session import Session

GLARE_TRIES = 4
FIND_PATH_S = (1.0, 2.0, 4.0, 8.0)  # then every 8 s
TIMERS = Timers()


class Midcall:
    """One session's exchanges inside its dialog. `awaits_answer`: a 2xx of ours had the offer,
    their ACK has the answer."""

    def __init__(self, session: Session, line: Line) -> None:
        self._session = session
        self._line = line
        self._agent = line.agent
        self._media = session.media
        self.on_hold = False
        self.held_by_peer = False
        self.awaits_answer = False
        self._acknowledged: asyncio.Future[None] | None = None
        self._offering = asyncio.Lock()
        self._finding: asyncio.Task[None] | None = None

    # --- what they send -------------------------------------------------------------------

    def requested(self, tx: Transaction, request: Request) -> None:
        """A request inside the dialog."""
        dialog = self._session.dialog
        if dialog is None:
            self._agent.respond(tx, request.response(481))
            return
        try:
            dialog.receive(request)
        except OutOfOrder:
            self._agent.respond(tx, request.response(500))
            return
        match request.method:
            case "BYE":
                self._agent.respond(tx, request.response(200))
                self._session.end("peer", 200, _reason_of(request))
            case "INVITE" | "UPDATE":
                self._line.spawn(self._take_offer(tx, request))
            case "INFO":
                key = pressed(request)
                self._agent.respond(tx, request.response(200 if key is not None else 415))
                if key is not None:
                    self._session.events.publish(KeyPressed(*key))
            case "NOTIFY" | "OPTIONS":
                self._agent.respond(tx, request.response(200))
            case _:
                self._agent.respond(tx, request.response(405))

    async def _take_offer(self, tx: Transaction, request: Request) -> None:
        """A re-INVITE or UPDATE: hold, resume, another path, a sign of life."""
        session = self._session
        assert session.dialog is not None, "requests inside a dialog only"
        if self._offering.locked():
            self._agent.respond(tx, request.response(491))
            return
        session.dialog.refresh_target(request)
        body = b""
        try:
            if request.body:
                body = await self._media.answer(request.body, self._wanted)
            elif request.method == "INVITE":
                body, self.awaits_answer = await self._media.offer(self._wanted), True
        except (NotAcceptable, MalformedSdp, MediaFailed) as error:
            response = session.response(request, 488)
            response.headers.add("Warning", f'399 client "{error}"')
            self._agent.respond(tx, response)
            return
        if request.method == "INVITE":
            self.accept(tx, request, body)
        else:
            self._agent.respond(tx, session.response(request, 200, body=body))
        self._note_hold()

    def accept(self, tx: Transaction, request: Request, body: bytes) -> None:
        """Our 2xx, again and again until it is acknowledged (RFC 3261 section 13.3.1.4)."""
        response = self._session.response(request, 200, body=body)
        self._acknowledged = asyncio.get_running_loop().create_future()
        self._agent.respond(tx, response)
        self._line.spawn(self._repeat(tx, response, self._acknowledged))

    async def _repeat(
        self, tx: Transaction, response: Response, acknowledged: asyncio.Future[None]
    ) -> None:
        wait_s, left_s = TIMERS.t1_s, TIMERS.give_up_s
        while left_s > 0:
            await asyncio.wait((acknowledged,), timeout=wait_s)
            if acknowledged.done() or self._session.state is State.ENDED:
                return
            if tx.state is TxState.ACCEPTED:
                self._agent.respond(tx, response)
            left_s -= wait_s
            wait_s = min(2 * wait_s, TIMERS.t2_s)
        await self._session.fail(MediaFailed("our answer was never acknowledged"))

    async def acknowledged(self) -> None:
        """Wait for the ACK. Raises what ended the call."""
        assert self._acknowledged is not None, "the 2xx was sent"
        over = asyncio.create_task(self._session.over())
        await asyncio.wait((self._acknowledged, over), return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        self._session.check_alive()

    def acked(self, request: Request) -> None:
        """The ACK to a 2xx of ours."""
        if self.awaits_answer:
            self.awaits_answer = False
            try:
                self._media.take_answer(request.body)
                self._note_hold()
            except RelayError as error:
                self._line.spawn(self._session.fail(MediaFailed(str(error))))
        if self._acknowledged is not None and not self._acknowledged.done():
            self._acknowledged.set_result(None)

    def _note_hold(self) -> None:
        theirs = self._media.theirs
        held = theirs is not None and theirs.direction in ("sendonly", "inactive")
        if held != self.held_by_peer:
            self.held_by_peer = held
            self._session.events.publish(Held("peer") if held else Resumed("peer"))

    # --- what we send ---------------------------------------------------------------------

    @property
    def _wanted(self) -> str:
        return "sendonly" if self.on_hold else "sendrecv"

    async def hold(self, wanted: bool) -> None:
        """Put them on hold, or take them off. Raises Refused, CallEnded."""
        if wanted == self.on_hold:
            return
        await self._reoffer("sendonly" if wanted else "sendrecv")
        self.on_hold = wanted
        self._session.events.publish(Held("us") if wanted else Resumed("us"))

    async def restart_ice(self) -> None:
        """Make the audio's path anew. Raises Refused, MediaFailed, CallEnded."""
        await self._reoffer(self._wanted, restart=True)
        await self._media.started()
        self._session.events.publish(PathRestored())

    def find_path(self) -> None:
        """Make the audio's path anew, and try on until one stands."""
        running = self._finding is not None and not self._finding.done()
        if self._session.state is State.ANSWERED and not running:
            self._finding = self._line.spawn(self._restart_until_it_stands())

    async def _restart_until_it_stands(self) -> None:
        for wait_s in itertools.chain(FIND_PATH_S, itertools.repeat(FIND_PATH_S[-1])):
            try:
                await self.restart_ice()
                return
            except CallEnded:
                return
            except ClientError:
                await asyncio.sleep(wait_s)

    async def press(self, key: str, duration_ms: int) -> None:
        """A key as SIP INFO. Raises Refused, CallEnded."""
        info = self._request("INFO")
        info.headers.add("Content-Type", "application/dtmf-relay")
        info.body = f"Signal={key.upper()}\r\nDuration={duration_ms}\r\n".encode("ascii")
        response = await self._agent.ask(info)
        if response.status >= 300:
            raise refusal(response)

    async def _reoffer(self, direction: str, restart: bool = False) -> None:
        """A re-INVITE; again after a while when both sides sent one (RFC 3261 section 14.1)."""
        async with self._offering:
            for attempt in range(GLARE_TRIES):
                body = await self._media.offer(direction, restart and attempt == 0)
                response = await self._reinvite(body)
                if response.status < 300:
                    try:
                        self._media.take_answer(response.body)
                    except RelayError as error:
                        raise MediaFailed(str(error)) from None
                    return
                if response.status != 491 or attempt == GLARE_TRIES - 1:
                    raise refusal(response)
                await asyncio.sleep(random.uniform(0, 2) + (0 if self._session.incoming else 2.1))

    async def _reinvite(self, body: bytes) -> Response:
        request = self._request("INVITE")
        self._session.add_body(request, body)
        dialog = self._session.dialog
        assert dialog is not None, "checked by _request"
        acks: list[Request] = []

        def acknowledge(response: Response) -> None:
            if not acks:
                acks.append(dialog.ack(request.cseq.number))
            self._agent.acknowledge(acks[0])

        exchange = Exchange(late=acknowledge)
        self._agent.start(request, exchange)
        response = await exchange.final
        if response.status < 300:
            acknowledge(response)
            dialog.refresh_target(response)
        elif response.status in (408, 481):  # RFC 3261 section 14.1: the dialog is gone
            self._session.end("peer", response.status, response.reason, refusal(response))
        return response

    def _request(self, method: str) -> Request:
        self._session.check_alive()
        if self._session.dialog is None or self._session.state is not State.ANSWERED:
            raise CallEnded("the call is not answered yet")
        return self._session.dialog.request(method)


def _reason_of(request: Request) -> str:
    """Why a BYE came: the text of its Reason (RFC 3326), if it has one."""
    for value in request.headers.all("Reason"):
        for part in value.split(";"):
            name, _, text = part.strip().partition("=")
            if name.lower() == "text":
                return text.strip('"')
    return "hung up"
