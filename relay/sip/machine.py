"""What the four transaction machines share: states, events, actions, timers, outputs.

Theory of operation. A machine is a table: (state, event) gives the next state and the
actions, in order; an absent pair is ignored, so a late or repeated message changes nothing.
Responses that arrive, responses to be sent, timers and transport errors are all events. An
action is the method of that name. Machines write outputs and arm timers; the layer owns
both lists, and time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar

from relay.sip.fields import Headers
from relay.sip.message import Message, Request, Response
from relay.sip.outputs import Failed, Hop, Output, ResponseReceived, Send, TimedOut
from relay.sip.timers import Timers, TimerStore


class State(Enum):
    """RFC 3261 section 17 and RFC 6026 (ACCEPTED)."""

    CALLING = "Calling"
    TRYING = "Trying"
    PROCEEDING = "Proceeding"
    ACCEPTED = "Accepted"
    COMPLETED = "Completed"
    CONFIRMED = "Confirmed"
    TERMINATED = "Terminated"

    __hash__ = object.__hash__  # members are single; the default hashes their name each time


class Event(Enum):
    """What a machine is fed."""

    START = "start"
    REQUEST = "request again"
    ACK = "ACK"
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "3xx-6xx"
    SEND_PROVISIONAL = "send 1xx"
    SEND_SUCCESS = "send 2xx"
    SEND_FAILURE = "send 3xx-6xx"
    CANCELLED = "CANCEL sent"
    TRANSPORT_ERROR = "transport error"
    CONNECTION_LOST = "connection lost"
    TIMER_A = "timer A"
    TIMER_B = "timer B"
    TIMER_D = "timer D"
    TIMER_E = "timer E"
    TIMER_F = "timer F"
    TIMER_G = "timer G"
    TIMER_H = "timer H"
    TIMER_I = "timer I"
    TIMER_J = "timer J"
    TIMER_K = "timer K"
    TIMER_L = "timer L"
    TIMER_M = "timer M"
    TIMER_CANCELLED = "no answer after CANCEL"

    __hash__ = object.__hash__


class Action(Enum):
    """What a machine does; the value is the name of its method."""

    SEND_REQUEST = "send_request"
    SEND_ACK = "send_ack"
    SEND_RESPONSE = "send_response"
    RESEND_RESPONSE = "resend_response"
    PASS_UP = "pass_up"
    PASS_ACK = "pass_ack"
    TIMED_OUT = "timed_out"
    ACK_TIMED_OUT = "ack_timed_out"
    FAIL = "fail"
    STOP_TIMERS = "stop_timers"
    ARM_A = "arm_a"
    ARM_B = "arm_b"
    ARM_D = "arm_d"
    ARM_E = "arm_e"
    ARM_E_T2 = "arm_e_t2"
    ARM_F = "arm_f"
    ARM_G = "arm_g"
    ARM_H = "arm_h"
    ARM_I = "arm_i"
    ARM_J = "arm_j"
    ARM_K = "arm_k"
    ARM_L = "arm_l"
    ARM_M = "arm_m"
    ARM_CANCELLED = "arm_cancelled"


Transitions = Mapping[tuple[State, Event], tuple[State, tuple[Action, ...]]]
_Steps = dict[tuple[State, Event], tuple[State, tuple[Callable[..., None], ...]]]


class Transaction:
    """One transaction (RFC 3261 section 17).

    `user` is the transaction user's own slot. `hop` is where the request goes (client) or
    the responses go (server). `announced` is False for those that the layer answers itself:
    the transaction user never hears of them.
    """

    TRANSITIONS: ClassVar[Transitions] = {}
    START: ClassVar[State] = State.TRYING
    _STEPS: ClassVar[_Steps] = {}  # TRANSITIONS with the methods in place of their names

    __slots__ = (
        "_outputs",
        "_running",
        "_store",
        "announced",
        "hop",
        "key",
        "request",
        "state",
        "timers",
        "user",
    )

    def __init__(
        self,
        request: Request,
        hop: Hop,
        key: tuple[str, ...],
        timers: Timers,
        store: TimerStore,
        outputs: list[Output],
    ) -> None:
        self.request = request
        self.hop = hop
        self.key = key
        self.timers = timers
        self.user: Any = None
        self.announced = True
        self.state = self.START
        self._store = store
        self._outputs = outputs
        self._running: list[list[Any]] = []

    def __init_subclass__(cls) -> None:
        cls._STEPS = {
            pair: (state, tuple(getattr(cls, action.value) for action in actions))
            for pair, (state, actions) in cls.TRANSITIONS.items()
        }

    def feed(self, event: Event, now: float, message: Message | None = None) -> None:
        """One step of the table; an absent pair is ignored."""
        step = self._STEPS.get((self.state, event))
        if step is None:
            return
        self.state, actions = step
        for action in actions:
            action(self, now, message)
        if self.state is State.TERMINATED:
            self.stop_timers(now, None)

    @property
    def terminated(self) -> bool:
        return self.state is State.TERMINATED

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key} {self.state.value}>"

    def _arm(self, event: Event, due: float) -> None:
        self._running.append(self._store.arm(due, self, event))

    def _linger(self, event: Event, now: float, delay_s: float) -> None:
        """Wait for repeats; on a reliable transport there are none (RFC 3261 section 17)."""
        if self.hop.reliable:
            self.state = State.TERMINATED
        else:
            self._arm(event, now + delay_s)

    def stop_timers(self, now: float, message: Message | None) -> None:
        for entry in self._running:
            self._store.stop(entry)
        self._running.clear()

    def _tell(self, output: Output) -> None:
        if self.announced:
            self._outputs.append(output)

    def fail(self, now: float, message: Message | None) -> None:
        self._tell(Failed(self))


class ServerTransaction(Transaction):
    """What both server machines do: keep the last response as octets and repeat it.

    `merged` is what copies of its request on other paths have in common with it, `octets`
    how long the request is, `to_tag` the tag of our last response.
    """

    __slots__ = ("_data", "merged", "octets", "to_tag")

    def __init__(
        self,
        request: Request,
        hop: Hop,
        key: tuple[str, ...],
        timers: Timers,
        store: TimerStore,
        outputs: list[Output],
    ) -> None:
        super().__init__(request, hop, key, timers, store, outputs)
        self.to_tag: str | None = None
        self.merged: tuple[str, ...] = ()
        self.octets = 0
        self._data = b""

    def send_response(self, now: float, message: Message | None) -> None:
        assert isinstance(message, Response)
        self.to_tag = message.to.tag
        self._data = message.encode()
        self._outputs.append(Send(self._data, self.hop, self))
        if message.status >= 200 and not self.hop.reliable:
            # It is kept for 32 s more. Over a connection the Via is still wanted (`_move`).
            self.request = _ANSWERED

    def resend_response(self, now: float, message: Message | None) -> None:
        if self._data:
            self._outputs.append(Send(self._data, self.hop, self))


_ANSWERED = Request("", "", Headers())  # what is left of a request that has its answer


class ClientTransaction(Transaction):
    """What both client machines do: keep the request as octets and repeat it."""

    __slots__ = ("_data", "_interval_s")

    def __init__(
        self,
        request: Request,
        hop: Hop,
        key: tuple[str, ...],
        timers: Timers,
        store: TimerStore,
        outputs: list[Output],
    ) -> None:
        super().__init__(request, hop, key, timers, store, outputs)
        self._data = request.encode()
        self._interval_s = timers.t1_s

    def send_request(self, now: float, message: Message | None) -> None:
        self._outputs.append(Send(self._data, self.hop, self))

    def pass_up(self, now: float, message: Message | None) -> None:
        assert isinstance(message, Response)
        if message.status >= 200:
            self._data = b""  # never repeated again
        self._tell(ResponseReceived(self, message))

    def timed_out(self, now: float, message: Message | None) -> None:
        self._tell(TimedOut(self))
