"""The SIP side of one call: its dialog, offers and answers, and what ends it."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from enum import Enum
from secrets import token_hex
from typing import TYPE_CHECKING, Literal

from relay.client.agent import Exchange
from relay.client.description import Codec
from relay.client.errors import CallEnded, ClientError, MediaFailed, Refused, refusal
from relay.client.events import (
    Answered,
    CallEvent,
    Ended,
    Held,
    KeyPressed,
    PathLost,
    PathRestored,
    Resumed,
    Ringing,
)
from relay.client.feed import Feed
from relay.client.media import Media
from relay.errors import MalformedSdp, NotAcceptable, OutOfOrder, RelayError
from relay.sip.dialog import Dialog
from relay.sip.dtmf_info import pressed
from relay.sip.message import Request, Response
from relay.sip.timers import Timers
from relay.sip.transaction import State as TxState
from relay.sip.transaction import Transaction

if TYPE_CHECKING:
    from relay.client.line import Line

BYE_TIMEOUT_S = 5.0
GLARE_TRIES = 4
FIND_PATH_S = (1.0, 2.0, 4.0, 8.0)  # then every 8 s
TIMERS = Timers()
SDP = "application/sdp"


class State(Enum):
    """Where a call is; it only ever goes down this list."""

    CALLING = "calling"
    RINGING = "ringing"
    ANSWERED = "answered"
    ENDED = "ended"


class Session:
    """One call's dialog and media, on the line that it came or goes over."""

    def __init__(self, line: Line, codecs: tuple[Codec, ...] | None = None) -> None:
        self._line = line
        self._agent = line.agent
        self.tag = token_hex(6)
        self.state = State.CALLING
        self.ended: Ended | None = None
        self.incoming = False
        self.on_hold = False
        self.held_by_peer = False
        self.media = Media(self, codecs or line.codecs, line.addresses)
        self.events: Feed[CallEvent] = Feed()
        self.at_end: list[Callable[[], None]] = []
        self.invite: Request | None = None
        self._changed = asyncio.Event()
        self._refusal: ClientError | None = None
        self._dialog: Dialog | None = None
        self._exchange: Exchange | None = None
        self._ack: Request | None = None
        self._cancelled = False
        self._invite_tx: Transaction | None = None  # theirs, until it has its final response
        self._awaits_answer = False  # our 2xx had the offer: their ACK has the answer
        self._acknowledged: asyncio.Future[None] | None = None
        self._offering = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None
        self._finding: asyncio.Task[None] | None = None  # another path

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
            self._refusal = error
            await self.hang_up()
            raise

    # --- what happens ---------------------------------------------------------------------

    def _move(self, state: State, event: CallEvent | None = None) -> None:
        self.state = state
        if event is not None:
            self.events.publish(event)
        self._changed.set()
        self._changed = asyncio.Event()

    def _end(
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
        self._end("relay", 408, reason)

    def reconnected(self, moved: bool) -> None:
        """The line is back; from another address, or without a path, the audio needs one."""
        if moved or not self.media.path_stands:
            self._find_path()

    def on_key(self, key: str, duration_ms: int) -> None:
        self.events.publish(KeyPressed(key, duration_ms))

    def on_path_lost(self) -> None:
        if self.state is State.ANSWERED:
            self.events.publish(PathLost())
            self._find_path()

    def _find_path(self) -> None:
        running = self._finding is not None and not self._finding.done()
        if self.state is State.ANSWERED and not running:
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

    # --- a call of ours -------------------------------------------------------------------

    async def place(self, uri: str) -> None:
        """Send the INVITE."""
        body = await self.media.offer()
        invite = self._line.request("INVITE", uri, self.tag)
        self._add_body(invite, body)
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
            self._end("relay", error.status, error.reason, error)
            return
        if response.status >= 300:
            refused = refusal(response)
            self._end("peer", response.status, refused.text or response.reason, refused)
            return
        self._dialog = Dialog.uac(invite, response)
        self._succeeded_again(response)
        if self._cancelled:
            await self._say_bye(self._dialog)
            return
        try:
            if response.body or self.media.theirs is None:
                self.media.take_answer(response.body)
        except RelayError as error:
            self._refusal = MediaFailed(str(error))
            await self.hang_up()
            return
        self._move(State.ANSWERED, Answered())

    def _succeeded_again(self, response: Response) -> None:
        """A 2xx, the first or a repeated one: it wants its ACK."""
        if self._dialog is not None and response.to.tag == self._dialog.remote_tag:
            if self._ack is None:
                self._ack = self._dialog.ack(response.cseq.number)
            self._agent.acknowledge(self._ack)

    # --- a call that came in --------------------------------------------------------------

    def ring(self, tx: Transaction, request: Request) -> None:
        """Their INVITE: they hear it ring until `answer` or `reject`. Raises MalformedMessage."""
        self._dialog = Dialog.uas(request, self.tag, self._line.contact)
        self.incoming = True
        self._invite_tx, self.invite = tx, request
        self._line.sessions[request.call_id] = self
        self._agent.respond(tx, self._response(request, 180))
        self._move(State.RINGING)

    async def answer(self) -> None:
        """Accept it. Raises CallEnded, MediaFailed."""
        tx, request = self._unanswered()
        try:
            if request.body:
                body = await self.media.answer(request.body)
            else:
                body, self._awaits_answer = await self.media.offer(), True
        except (NotAcceptable, MalformedSdp) as error:
            failure = MediaFailed(str(error))
            self._decline(tx, request, 488, None, failure)
            raise failure from None
        self._unanswered()  # it may have been cancelled meanwhile
        self._invite_tx = None
        self._move(State.ANSWERED, Answered())
        self._accept(tx, request, body)
        if self._awaits_answer:
            await self._acknowledged_in_time()
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
        response = self._response(request, status, reason)
        if failure is not None:
            response.headers.add("Warning", f'399 client "{failure}"')
        self._invite_tx = None
        self._agent.respond(tx, response)
        self._end("us", status, reason or str(failure or response.reason), failure)

    def _accept(self, tx: Transaction, request: Request, body: bytes) -> None:
        """Our 2xx, again and again until it is acknowledged (RFC 3261 section 13.3.1.4)."""
        response = self._response(request, 200, body=body)
        self._acknowledged = asyncio.get_running_loop().create_future()
        self._agent.respond(tx, response)
        self._line.spawn(self._repeat(tx, response, self._acknowledged))

    async def _repeat(
        self, tx: Transaction, response: Response, acknowledged: asyncio.Future[None]
    ) -> None:
        wait_s, left_s = TIMERS.t1_s, TIMERS.give_up_s
        while left_s > 0:
            await asyncio.wait((acknowledged,), timeout=wait_s)
            if acknowledged.done() or self.state is State.ENDED:
                return
            if tx.state is TxState.ACCEPTED:
                self._agent.respond(tx, response)
            left_s -= wait_s
            wait_s = min(2 * wait_s, TIMERS.t2_s)
        self._refusal = MediaFailed("our answer was never acknowledged")
        await self.hang_up()

    async def _acknowledged_in_time(self) -> None:
        assert self._acknowledged is not None, "the 2xx was sent"
        over = asyncio.create_task(self.over())
        await asyncio.wait((self._acknowledged, over), return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        self.check_alive()

    def cancelled_by_peer(self) -> None:
        """Their CANCEL."""
        if self._invite_tx is not None and self.invite is not None:
            tx, self._invite_tx = self._invite_tx, None
            self._agent.respond(tx, self._response(self.invite, 487))
            self._end("peer", 487, "cancelled")

    # --- the end, by us -------------------------------------------------------------------

    async def hang_up(self) -> None:
        """End the call in whatever state it is; returns when its audio is closed."""
        if self._invite_tx is not None:
            self.reject(603, None)
        elif self.state is State.ANSWERED and self._dialog is not None:
            self._end("us", 200, "hung up")
            await self._say_bye(self._dialog)
        elif self.state is not State.ENDED:
            self._cancelled = True
            if self._exchange is not None:
                self._agent.cancel(self._exchange)
            self._end("us", 487, "cancelled")
        if self._closing is not None:
            await self._closing

    async def _say_bye(self, dialog: Dialog) -> None:
        try:
            await asyncio.wait_for(self._agent.ask(dialog.request("BYE")), BYE_TIMEOUT_S)
        except (Refused, TimeoutError):
            pass  # the other side notices that the audio has ended

    # --- inside the dialog: what they send ------------------------------------------------

    def requested(self, tx: Transaction, request: Request) -> None:
        """A request inside the dialog."""
        if self._dialog is None:
            self._agent.respond(tx, request.response(481))
            return
        try:
            self._dialog.receive(request)
        except OutOfOrder:
            self._agent.respond(tx, request.response(500))
            return
        match request.method:
            case "BYE":
                self._agent.respond(tx, request.response(200))
                self._end("peer", 200, _reason_of(request))
            case "INVITE" | "UPDATE":
                self._line.spawn(self._take_offer(tx, request))
            case "INFO":
                key = pressed(request)
                self._agent.respond(tx, request.response(200 if key is not None else 415))
                if key is not None:
                    self.events.publish(KeyPressed(*key))
            case "NOTIFY" | "OPTIONS":
                self._agent.respond(tx, request.response(200))
            case _:
                self._agent.respond(tx, request.response(405))

    async def _take_offer(self, tx: Transaction, request: Request) -> None:
        """A re-INVITE or UPDATE: hold, resume, another path, a sign of life."""
        assert self._dialog is not None, "requests inside a dialog only"
        if self._offering.locked():
            self._agent.respond(tx, request.response(491))
            return
        self._dialog.refresh_target(request)
        body = b""
        try:
            if request.body:
                body = await self.media.answer(request.body, self._wanted)
            elif request.method == "INVITE":
                body, self._awaits_answer = await self.media.offer(self._wanted), True
        except (NotAcceptable, MalformedSdp, MediaFailed) as error:
            response = self._response(request, 488)
            response.headers.add("Warning", f'399 client "{error}"')
            self._agent.respond(tx, response)
            return
        if request.method == "INVITE":
            self._accept(tx, request, body)
        else:
            self._agent.respond(tx, self._response(request, 200, body=body))
        self._note_hold()

    def acked(self, request: Request) -> None:
        """The ACK to a 2xx of ours."""
        if self._awaits_answer:
            self._awaits_answer = False
            try:
                self.media.take_answer(request.body)
                self._note_hold()
            except RelayError as error:
                self._refusal = MediaFailed(str(error))
                self._line.spawn(self.hang_up())
        if self._acknowledged is not None and not self._acknowledged.done():
            self._acknowledged.set_result(None)

    def _note_hold(self) -> None:
        theirs = self.media.theirs
        held = theirs is not None and theirs.direction in ("sendonly", "inactive")
        if held != self.held_by_peer and (held or theirs is not None):
            self.held_by_peer = held
            self.events.publish(Held("peer") if held else Resumed("peer"))

    # --- inside the dialog: what we send --------------------------------------------------

    @property
    def _wanted(self) -> str:
        return "sendonly" if self.on_hold else "sendrecv"

    async def hold(self, wanted: bool) -> None:
        """Put them on hold, or take them off. Raises Refused."""
        if wanted == self.on_hold:
            return
        await self._reoffer("sendonly" if wanted else "sendrecv")
        self.on_hold = wanted
        self.events.publish(Held("us") if wanted else Resumed("us"))

    async def restart_ice(self) -> None:
        """Make the audio's path anew. Raises Refused, MediaFailed."""
        await self._reoffer(self._wanted, restart=True)
        await self.media.started()
        self.events.publish(PathRestored())

    async def press(self, key: str, duration_ms: int) -> None:
        """A key as SIP INFO. Raises Refused."""
        body = f"Signal={key.upper()}\r\nDuration={duration_ms}\r\n".encode("ascii")
        info = self._in_dialog("INFO")
        info.headers.add("Content-Type", "application/dtmf-relay")
        info.body = body
        response = await self._agent.ask(info)
        if response.status >= 300:
            raise refusal(response)

    async def _reoffer(self, direction: str, restart: bool = False) -> None:
        """A re-INVITE; again after a while when both sides sent one (RFC 3261 section 14.1)."""
        async with self._offering:
            for attempt in range(GLARE_TRIES):
                body = await self.media.offer(direction, restart and attempt == 0)
                response = await self._reinvite(body)
                if response.status < 300:
                    try:
                        self.media.take_answer(response.body)
                    except RelayError as error:
                        raise MediaFailed(str(error)) from None
                    return
                if response.status != 491 or attempt == GLARE_TRIES - 1:
                    raise refusal(response)
                await asyncio.sleep(random.uniform(0, 2) + (0 if self.incoming else 2.1))

    async def _reinvite(self, body: bytes) -> Response:
        request = self._in_dialog("INVITE")
        self._add_body(request, body)
        dialog = self._dialog
        assert dialog is not None, "checked by _in_dialog"
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
            self._end("peer", response.status, response.reason, refusal(response))
        return response

    def _in_dialog(self, method: str) -> Request:
        self.check_alive()
        if self._dialog is None or self.state is not State.ANSWERED:
            raise CallEnded("the call is not answered yet")
        return self._dialog.request(method)

    # --- messages -------------------------------------------------------------------------

    def _add_body(self, message: Request | Response, body: bytes) -> None:
        if "Contact" not in message.headers:
            message.headers.add("Contact", self._line.contact)
        if body:
            message.headers.add("Content-Type", SDP)
            message.body = body

    def _response(
        self, request: Request, status: int, reason: str | None = None, body: bytes = b""
    ) -> Response:
        response = request.response(status, reason, self.tag)
        if status < 300:
            self._add_body(response, body)
        return response


def _reason_of(request: Request) -> str:
    """Why a BYE came: the text of its Reason (RFC 3326), if it has one."""
    for value in request.headers.all("Reason"):
        for part in value.split(";"):
            name, _, text = part.strip().partition("=")
            if name.lower() == "text":
                return text.strip('"')
    return "hung up"
