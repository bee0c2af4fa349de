"""The four transaction machines in virtual time (RFC 3261 section 17, RFC 6026)."""

from __future__ import annotations

import pytest

from relay.sip.message import Request, Response
from relay.sip.parser import parse
from relay.sip.transaction import (
    AckReceived,
    AckTimedOut,
    CancelReceived,
    Failed,
    Hop,
    InviteClientTransaction,
    InviteServerTransaction,
    Output,
    RequestReceived,
    ResponseReceived,
    Send,
    State,
    StrayResponse,
    TimedOut,
    Timers,
    Transaction,
    TransactionLayer,
)
from tests.scenario.sip_link import Endpoint, Link
from tests.unit.sip_samples import request

ALICE = Hop("udp", "127.2.0.1", 5060, 1)
BOB = Hop("udp", "127.2.0.2", 5060, 1)
TCP = Hop("tcp", "127.2.0.2", 5060, 7)
VIA = "SIP/2.0/UDP 127.2.0.1:5060;branch=z9hG4bKone"


def _drain_until(layer: TransactionLayer, until: float) -> list[tuple[float, Output]]:
    """Fire timers in order; every output with the time at which it came."""
    found = [(0.0, output) for output in layer.drain()]
    while (due := layer.next_timer()) is not None and due <= until:
        layer.on_timer(due)
        found += [(due, output) for output in layer.drain()]
    return found


def _sends(found: list[tuple[float, Output]]) -> list[float]:
    return [when for when, output in found if isinstance(output, Send)]


def _others(found: list[tuple[float, Output]]) -> list[tuple[float, type[object]]]:
    return [(when, type(output)) for when, output in found if not isinstance(output, Send)]


def _client(method: str = "INVITE", hop: Hop = BOB) -> tuple[TransactionLayer, Transaction]:
    layer = TransactionLayer()
    return layer, layer.request(request(method), hop, "127.2.0.1:5060", 0.0)


def _answer(tx: Transaction, status: int, tag: str = "bob") -> Response:
    """What the peer would send, as octets would bring it."""
    message = parse(tx.request.response(status, to_tag=tag).encode())
    assert isinstance(message, Response)
    return message


def _server(
    message: Request | None = None, source: Hop = ALICE
) -> tuple[TransactionLayer, RequestReceived]:
    layer = TransactionLayer()
    return layer, _received(layer, message or request(via=VIA), source)


def _received(layer: TransactionLayer, message: Request, source: Hop = ALICE) -> RequestReceived:
    layer.receive(parse(message.encode()), source, 0.0)
    (received,) = [o for o in layer.drain() if isinstance(o, RequestReceived)]
    return received


def _sent(layer: TransactionLayer) -> list[Response | Request]:
    return [parse(output.data) for output in layer.drain() if isinstance(output, Send)]


def _statuses(layer: TransactionLayer) -> list[int]:
    return [message.status for message in _sent(layer) if isinstance(message, Response)]


# --- INVITE client: timers A, B, D, M -------------------------------------------------------


def test_unanswered_invite_is_resent_at_doubling_gaps_until_timer_b() -> None:
    """RFC 3261 section 17.1.1.2: gaps T1, 2*T1, 4*T1 …, given up at 64*T1."""
    layer, tx = _client()
    found = _drain_until(layer, 100)
    assert _sends(found) == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert _others(found) == [(32.0, TimedOut)]
    assert tx.terminated
    assert len(layer) == 0
    assert len({output.data for _, output in found if isinstance(output, Send)}) == 1


def test_over_tcp_an_invite_is_sent_once() -> None:
    layer, _ = _client(hop=TCP)
    found = _drain_until(layer, 100)
    assert _sends(found) == [0]
    assert _others(found) == [(32.0, TimedOut)]


def test_a_provisional_stops_timers_a_and_b() -> None:
    layer, tx = _client()
    layer.receive(_answer(tx, 180), BOB, 0.1)
    assert layer.next_timer() is None
    layer.receive(_answer(tx, 183), BOB, 50.0)
    found = _drain_until(layer, 1000)
    assert _sends(found) == [0]
    assert _others(found) == [(0, ResponseReceived), (0, ResponseReceived)]
    assert tx.state is State.PROCEEDING


@pytest.mark.parametrize(("status", "state"), [(200, State.ACCEPTED), (486, State.COMPLETED)])
@pytest.mark.parametrize("rings", [False, True])
def test_a_final_answer_ends_every_earlier_timer(status: int, state: State, rings: bool) -> None:
    layer, tx = _client()
    assert isinstance(tx, InviteClientTransaction)
    if rings:
        layer.receive(_answer(tx, 180), BOB, 0.1)
        layer.cancel(tx, 0.2)
        layer.on_timer(0.2)
    layer.drain()
    layer.receive(_answer(tx, status), BOB, 0.3)
    assert tx.state is state
    assert [type(output) for output in layer.drain()][-1] is ResponseReceived
    assert len(tx._running) == 1


def test_a_refusal_after_ringing_is_acknowledged() -> None:
    layer, tx = _client()
    layer.receive(_answer(tx, 180), BOB, 0.1)
    layer.drain()
    layer.receive(_answer(tx, 486), BOB, 0.2)
    (ack,) = _sent(layer)
    assert isinstance(ack, Request)
    assert ack.method == "ACK"


def test_timers_follow_t1() -> None:
    layer = TransactionLayer(Timers(t1_s=0.1))
    layer.request(request(), BOB, "127.2.0.1", 0.0)
    found = _drain_until(layer, 100)
    assert len(_sends(found)) == 7
    assert [(round(when, 6), kind) for when, kind in _others(found)] == [(6.4, TimedOut)]


def test_a_refusal_is_acknowledged_each_time_until_timer_d() -> None:
    layer, tx = _client()
    layer.drain()
    layer.receive(_answer(tx, 486), BOB, 1.0)
    ack, up = layer.drain()
    assert isinstance(ack, Send)
    assert isinstance(up, ResponseReceived)
    for when in (2.0, 32.0):
        layer.receive(_answer(tx, 486), BOB, when)
        assert [type(output) for output in layer.drain()] == [Send]
    assert layer.next_timer() == 33.0
    layer.on_timer(33.0)
    assert tx.terminated
    layer.receive(_answer(tx, 486), BOB, 34.0)
    assert layer.drain() == []
    assert layer.dropped == 1


def test_over_tcp_timer_d_is_zero() -> None:
    layer, tx = _client(hop=TCP)
    layer.receive(_answer(tx, 486), TCP, 1.0)
    assert tx.terminated
    assert (len(layer), layer.next_timer()) == (0, None)


def test_the_ack_to_a_refusal_is_that_of_section_17_1_1_3() -> None:
    layer = TransactionLayer()
    invite = request(extra=(("Route", "<sip:p1;lr>, <sip:p2;lr>"),), cseq=42)
    tx = layer.request(invite, BOB, "127.2.0.1:5060", 0.0)
    layer.drain()
    layer.receive(_answer(tx, 404, "notfound"), BOB, 0.1)
    (ack,) = _sent(layer)
    assert isinstance(ack, Request)
    assert (ack.method, ack.uri, str(ack.cseq)) == ("ACK", invite.uri, "42 ACK")
    assert ack.headers.all("Via") == invite.headers.all("Via")
    assert ack.headers.get("From") == invite.headers.get("From")
    assert ack.to.tag == "notfound"
    assert ack.headers.all("Route") == ["<sip:p1;lr>", "<sip:p2;lr>"]


def test_every_2xx_goes_up_until_timer_m() -> None:
    """RFC 6026 section 7.2: a fork answers with several 2xx, each may be repeated."""
    layer, tx = _client()
    layer.drain()
    for when, tag in ((1.0, "one"), (1.5, "one"), (2.0, "two")):
        layer.receive(_answer(tx, 200, tag), BOB, when)
        (up,) = layer.drain()
        assert isinstance(up, ResponseReceived)
        assert up.response.to.tag == tag
    layer.receive(_answer(tx, 486), BOB, 3.0)
    assert layer.drain() == []
    assert layer.next_timer() == 33.0
    layer.on_timer(33.0)
    layer.receive(_answer(tx, 200), BOB, 33.1)
    (stray,) = layer.drain()
    assert isinstance(stray, StrayResponse)


# --- non-INVITE client: timers E, F, K ------------------------------------------------------


def test_unanswered_bye_is_resent_at_gaps_up_to_t2_until_timer_f() -> None:
    layer, _ = _client("BYE")
    found = _drain_until(layer, 100)
    assert _sends(found) == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert _others(found) == [(32.0, TimedOut)]
    assert len(layer) == 0


def test_after_a_provisional_the_gap_is_t2_and_timer_f_stays() -> None:
    layer, tx = _client("OPTIONS")
    layer.receive(_answer(tx, 100), BOB, 0.1)
    found = _drain_until(layer, 100)
    assert _sends(found) == [0, 0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
    assert _others(found) == [(0, ResponseReceived), (32.0, TimedOut)]


def test_timer_k_absorbs_repeated_answers() -> None:
    layer, tx = _client("BYE")
    layer.receive(_answer(tx, 200), BOB, 1.0)
    assert len(layer.drain()) == 2
    layer.receive(_answer(tx, 200), BOB, 5.9)
    assert layer.drain() == []
    assert layer.next_timer() == 6.0
    layer.on_timer(6.0)
    assert tx.terminated


def test_over_tcp_timer_k_is_zero_and_nothing_is_resent() -> None:
    layer, tx = _client("BYE", TCP)
    assert _sends(_drain_until(layer, 31)) == [0]
    layer.receive(_answer(tx, 404), TCP, 31.0)
    assert (tx.terminated, layer.next_timer()) == (True, None)


# --- INVITE server: timers G, H, I, L -------------------------------------------------------


def test_an_invite_is_answered_100_at_once_and_its_repeats_absorbed() -> None:
    layer = TransactionLayer()
    data = request(via=VIA).encode()
    layer.receive(parse(data), ALICE, 0.0)
    trying, up = layer.drain()
    assert isinstance(trying, Send)
    assert trying.data.startswith(b"SIP/2.0 100 Trying\r\n")
    assert isinstance(up, RequestReceived)
    layer.receive(parse(data), ALICE, 0.5)
    (again,) = layer.drain()
    assert isinstance(again, Send)
    assert again.data == trying.data
    layer.respond(up.tx, up.request.response(180, to_tag="b"), 1.0)
    assert _statuses(layer) == [180]
    layer.receive(parse(data), ALICE, 1.5)
    assert _statuses(layer) == [180]


def test_a_refusal_is_resent_until_timer_h() -> None:
    layer, received = _server()
    layer.respond(received.tx, received.request.response(486, to_tag="b"), 0.0)
    found = _drain_until(layer, 100)
    assert _sends(found) == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert _others(found) == [(32.0, AckTimedOut)]
    assert len(layer) == 0


def test_the_ack_stops_the_refusal_and_timer_i_absorbs_its_repeats() -> None:
    layer, received = _server()
    layer.respond(received.tx, received.request.response(486, to_tag="b"), 0.0)
    layer.drain()
    ack = request("ACK", via=VIA, to="<sip:bob@biloxi.example.com>;tag=b")
    for when in (0.2, 0.3):
        layer.receive(parse(ack.encode()), ALICE, when)
        assert layer.drain() == []
    assert received.tx.state is State.CONFIRMED
    assert layer.next_timer() == pytest.approx(5.2)
    layer.on_timer(5.3)
    assert len(layer) == 0


def test_over_tcp_a_refusal_is_sent_once_and_timer_i_is_zero() -> None:
    source = Hop("tcp", "127.2.0.1", 40000, 3)
    layer, received = _server(source=source)
    layer.respond(received.tx, received.request.response(486, to_tag="b"), 0.0)
    found = _drain_until(layer, 31)
    assert _sends(found) == [0]
    ack = request("ACK", via=VIA, to="<sip:bob@biloxi.example.com>;tag=b")
    layer.receive(parse(ack.encode()), source, 31.0)
    assert (received.tx.terminated, layer.next_timer()) == (True, None)


def test_accepted_absorbs_invites_and_lets_the_user_repeat_its_2xx_until_timer_l() -> None:
    """RFC 6026 section 7.1."""
    layer, received = _server()
    ok = received.request.response(200, to_tag="b")
    layer.respond(received.tx, ok, 1.0)
    assert _statuses(layer) == [200]
    layer.receive(parse(request(via=VIA).encode()), ALICE, 1.2)
    assert layer.drain() == []
    layer.respond(received.tx, ok, 1.5)
    assert _statuses(layer) == [200]
    layer.respond(received.tx, received.request.response(486, to_tag="b"), 2.0)
    assert layer.drain() == []
    assert layer.next_timer() == 33.0
    layer.on_timer(33.0)
    assert received.tx.terminated
    layer.respond(received.tx, ok, 34.0)
    assert layer.drain() == []


@pytest.mark.parametrize("branch", ["z9hG4bKone", "z9hG4bKtwo"])
def test_the_ack_to_a_2xx_goes_up_whatever_its_branch(branch: str) -> None:
    layer, received = _server()
    layer.respond(received.tx, received.request.response(200, to_tag="b"), 0.0)
    layer.drain()
    via = VIA.replace("z9hG4bKone", branch)
    ack = request("ACK", via=via, to="<sip:bob@biloxi.example.com>;tag=b")
    for when in (0.1, 0.2):
        layer.receive(parse(ack.encode()), ALICE, when)
        (up,) = layer.drain()
        assert isinstance(up, AckReceived)
        assert up.request == ack


# --- non-INVITE server: timer J -------------------------------------------------------------


def test_repeats_of_a_bye_are_absorbed_and_answered_until_timer_j() -> None:
    data = request("BYE", via=VIA, to="<sip:b@c>;tag=1").encode()
    layer = TransactionLayer()
    layer.receive(parse(data), ALICE, 0.0)
    (up,) = layer.drain()
    assert isinstance(up, RequestReceived)
    layer.receive(parse(data), ALICE, 0.1)
    assert layer.drain() == []
    layer.respond(up.tx, up.request.response(200), 1.0)
    layer.receive(parse(data), ALICE, 1.5)
    assert _statuses(layer) == [200, 200]
    layer.respond(up.tx, up.request.response(500), 1.6)
    assert layer.drain() == []
    assert layer.next_timer() == 33.0
    layer.on_timer(33.0)
    assert len(layer) == 0


def test_a_provisional_answer_is_repeated_too() -> None:
    layer, received = _server(request("OPTIONS", via=VIA))
    layer.respond(received.tx, received.request.response(100), 0.0)
    layer.receive(parse(request("OPTIONS", via=VIA).encode()), ALICE, 0.5)
    assert _statuses(layer) == [100, 100]


def test_over_tcp_timer_j_is_zero() -> None:
    layer, received = _server(request("OPTIONS", via=VIA), Hop("tcp", "127.2.0.1", 4000, 3))
    layer.respond(received.tx, received.request.response(200, to_tag="b"), 0.0)
    assert (received.tx.terminated, layer.next_timer()) == (True, None)


# --- CANCEL ---------------------------------------------------------------------------------


def _cancellable() -> tuple[TransactionLayer, InviteClientTransaction]:
    layer, tx = _client()
    assert isinstance(tx, InviteClientTransaction)
    layer.receive(_answer(tx, 180), BOB, 0.1)
    layer.drain()
    return layer, tx


def test_no_cancel_before_a_provisional_after_a_final_or_twice() -> None:
    """RFC 3261 section 9.1."""
    layer, tx = _client()
    assert isinstance(tx, InviteClientTransaction)
    assert layer.cancel(tx, 0.0) is None
    layer.receive(_answer(tx, 180), BOB, 0.1)
    assert layer.cancel(tx, 0.2) is not None
    assert layer.cancel(tx, 0.3) is None
    layer.receive(_answer(tx, 200), BOB, 0.4)
    assert layer.cancel(tx, 0.5) is None


def test_the_cancel_has_the_branch_and_the_number_of_its_invite() -> None:
    layer, tx = _cancellable()
    layer.cancel(tx, 1.0)
    (cancel,) = _sent(layer)
    assert isinstance(cancel, Request)
    assert cancel.headers.all("Via") == tx.request.headers.all("Via")
    assert (cancel.uri, str(cancel.cseq)) == (tx.request.uri, "1 CANCEL")
    for name in ("From", "To", "Call-ID"):
        assert cancel.headers.get(name) == tx.request.headers.get(name)


def test_a_peer_that_ignores_the_cancel_is_given_up_after_64_t1() -> None:
    layer, tx = _cancellable()
    layer.cancel(tx, 1.0)
    found = _drain_until(layer, 100)
    assert _others(found) == [(33.0, TimedOut)]
    assert len(layer) == 0


def test_a_200_that_crosses_the_cancel_goes_up() -> None:
    layer, tx = _cancellable()
    layer.cancel(tx, 1.0)
    layer.drain()
    layer.receive(_answer(tx, 200), BOB, 1.1)
    (up,) = layer.drain()
    assert isinstance(up, ResponseReceived)
    assert (up.tx, up.response.status) == (tx, 200)
    assert tx.cancelled


def test_a_matching_cancel_is_answered_and_passed_up_once() -> None:
    layer, received = _server()
    layer.respond(received.tx, received.request.response(180, to_tag="b"), 0.0)
    layer.drain()
    data = request("CANCEL", via=VIA).encode()
    layer.receive(parse(data), ALICE, 1.0)
    send, up = layer.drain()
    assert isinstance(send, Send)
    ok = parse(send.data)
    assert isinstance(ok, Response)
    assert (ok.status, str(ok.cseq), ok.to.tag) == (200, "1 CANCEL", "b")
    assert isinstance(up, CancelReceived)
    assert up.invite_tx is received.tx
    layer.receive(parse(data), ALICE, 1.2)
    assert _statuses(layer) == [200]
    layer.respond(received.tx, received.request.response(487, to_tag="b"), 1.3)
    assert _statuses(layer) == [487]


def test_a_cancel_after_the_final_answer_changes_nothing() -> None:
    layer, received = _server()
    layer.respond(received.tx, received.request.response(200, to_tag="b"), 0.0)
    layer.drain()
    layer.receive(parse(request("CANCEL", via=VIA).encode()), ALICE, 1.0)
    assert _statuses(layer) == [200]
    assert received.tx.state is State.ACCEPTED


def test_a_cancel_of_nothing_gets_481() -> None:
    layer, received = _server()
    other = request("CANCEL", via=VIA.replace("one", "other"))
    layer.receive(parse(other.encode()), ALICE, 1.0)
    assert _statuses(layer) == [481]
    assert received.tx.state is State.PROCEEDING


def test_a_cancel_from_another_sent_by_does_not_match() -> None:
    layer, _ = _server()
    other = request("CANCEL", via=VIA.replace("127.2.0.1", "127.2.0.66"))
    layer.receive(parse(other.encode()), Hop("udp", "127.2.0.66", 5060, 1), 1.0)
    assert _statuses(layer) == [481]


# --- matching -------------------------------------------------------------------------------


def test_a_merged_request_gets_482() -> None:
    """RFC 3261 section 8.2.2.2: the same request by another path."""
    layer, received = _server()
    data = request(via=VIA.replace("one", "two")).encode()
    layer.receive(parse(data), ALICE, 0.1)
    assert _statuses(layer) == [482]
    layer.receive(parse(data), ALICE, 0.2)
    assert _statuses(layer) == [482]
    assert [type(output) for _, output in _drain_until(layer, 100)] == [Send] * 10
    assert received.tx.state is State.PROCEEDING
    assert len(layer) == 1


def test_another_number_or_a_dialog_is_no_merge() -> None:
    layer, _ = _server()
    for message in (
        request(via=VIA.replace("one", "two"), cseq=2),
        request(via=VIA.replace("one", "three"), to="<sip:b@c>;tag=1"),
        request("OPTIONS", via=VIA.replace("one", "four")),
    ):
        layer.receive(parse(message.encode()), ALICE, 0.1)
        assert any(isinstance(output, RequestReceived) for output in layer.drain())


def test_the_same_request_is_new_once_the_first_is_forgotten() -> None:
    layer, received = _server(request("OPTIONS", via=VIA))
    layer.respond(received.tx, received.request.response(200, to_tag="b"), 0.0)
    layer.on_timer(32.0)
    layer.drain()
    assert _received(layer, request("OPTIONS", via=VIA.replace("one", "two")))


OLD_VIA = "SIP/2.0/UDP 127.2.0.1:5060"


@pytest.mark.parametrize("via", [OLD_VIA, OLD_VIA + ";branch=1", OLD_VIA + ";branch=z9hG4bK"])
def test_rfc_2543_peers_are_matched_by_their_headers(via: str) -> None:
    """RFC 3261 section 17.2.3, second half."""
    layer, received = _server(request(via=via))
    layer.receive(parse(request(via=via).encode()), ALICE, 0.1)
    assert _statuses(layer) == [100]
    layer.receive(parse(request("CANCEL", via=via).encode()), ALICE, 0.2)
    assert any(isinstance(output, CancelReceived) for output in layer.drain())
    layer.respond(received.tx, received.request.response(487, to_tag="b"), 0.3)
    layer.drain()
    stranger = request("ACK", via=via, to="<sip:bob@biloxi.example.com>;tag=other")
    layer.receive(parse(stranger.encode()), ALICE, 0.4)
    assert [type(output) for output in layer.drain()] == [AckReceived]
    assert layer.next_timer() is not None
    ack = request("ACK", via=via, to="<sip:bob@biloxi.example.com>;tag=b")
    layer.receive(parse(ack.encode()), ALICE, 0.5)
    assert received.tx.state is State.CONFIRMED
    assert _received(layer, request(via=via, cseq=2)).tx is not received.tx


def test_a_response_for_another_branch_or_method_is_dropped() -> None:
    layer, tx = _client()
    layer.drain()
    for changed in ("z9hG4bKguess", None):
        answer = _answer(tx, 486)
        if changed is not None:
            answer.headers.set("Via", f"SIP/2.0/UDP 127.2.0.1;branch={changed}")
        else:
            answer.headers.set("CSeq", "1 BYE")
        layer.receive(answer, BOB, 0.1)
    assert layer.drain() == []
    assert layer.dropped == 2
    assert tx.state is State.CALLING


def test_a_response_with_two_vias_is_meant_for_someone_else() -> None:
    layer, tx = _client()
    layer.drain()
    answer = _answer(tx, 200)
    answer.headers.add("Via", "SIP/2.0/UDP below;branch=z9hG4bKx")
    layer.receive(answer, BOB, 0.1)
    assert (layer.drain(), layer.dropped) == ([], 1)


# --- routing of responses -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("via", "source", "hop", "marked"),
    [
        ("10.0.0.1:5070;branch=z9hG4bKa;rport", ("192.0.2.9", 1234), ("192.0.2.9", 1234),
         "10.0.0.1:5070;branch=z9hG4bKa;rport=1234;received=192.0.2.9"),
        ("10.0.0.1:5070;branch=z9hG4bKa", ("192.0.2.9", 1234), ("192.0.2.9", 5070),
         "10.0.0.1:5070;branch=z9hG4bKa;received=192.0.2.9"),
        ("10.0.0.1;branch=z9hG4bKa", ("10.0.0.1", 1234), ("10.0.0.1", 5060),
         "10.0.0.1;branch=z9hG4bKa"),
        ("host;branch=z9hG4bKa;received=1.1.1.1", ("10.0.0.1", 1), ("10.0.0.1", 5060),
         "host;branch=z9hG4bKa;received=10.0.0.1"),
        ("[2001:db8::1];branch=z9hG4bKa;rport", ("2001:db8::1", 9), ("2001:db8::1", 9),
         "[2001:db8::1];branch=z9hG4bKa;rport=9;received=2001:db8::1"),
        ("10.0.0.1;branch=z9hG4bKa;maddr=6.6.6.6", ("10.0.0.1", 1234), ("10.0.0.1", 5060),
         "10.0.0.1;branch=z9hG4bKa;maddr=6.6.6.6"),
    ],
)  # fmt: skip
def test_udp_answers_go_back_to_where_the_request_came_from(
    via: str, source: tuple[str, int], hop: tuple[str, int], marked: str
) -> None:
    """RFC 3261 section 18.2, RFC 3581 section 4."""
    layer = TransactionLayer()
    message = request("OPTIONS", via=f"SIP/2.0/UDP {via}")
    layer.receive(parse(message.encode()), Hop("udp", *source, 5), 0.0)
    (up,) = layer.drain()
    assert isinstance(up, RequestReceived)
    assert up.tx.hop == Hop("udp", *hop, 5)
    assert up.request.headers.get("Via") == f"SIP/2.0/UDP {marked}"


def test_stream_answers_go_back_on_their_connection() -> None:
    source = Hop("tcp", "192.0.2.9", 40001, 12)
    _, received = _server(source=source)
    assert received.tx.hop == source


def test_a_bad_request_is_refused_without_state() -> None:
    layer = TransactionLayer()
    bad = request(via=VIA, uri="tel:+3531")
    tags = set()
    for _ in range(2):
        layer.receive(parse(bad.encode()), ALICE, 0.0)
        (answer,) = _sent(layer)
        assert isinstance(answer, Response)
        assert answer.status == 416
        tags.add(answer.to.tag)
    assert len(tags) == 1
    assert len(layer) == 0


# --- transport errors -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["INVITE", "BYE"])
def test_a_failed_send_ends_the_client_transaction(method: str) -> None:
    layer, tx = _client(method)
    (send,) = layer.drain()
    assert isinstance(send, Send)
    layer.transport_failed(send.hop, 0.1, send.tx)
    (failed,) = layer.drain()
    assert isinstance(failed, Failed)
    assert failed.tx is tx
    assert (len(layer), layer.next_timer()) == (0, None)


@pytest.mark.parametrize("status", [180, 486])
def test_a_failure_after_an_answer_ends_the_invite_too(status: int) -> None:
    layer, tx = _client()
    layer.receive(_answer(tx, status), BOB, 0.1)
    layer.drain()
    layer.transport_failed(BOB, 0.2, tx)
    assert [type(output) for output in layer.drain()] == [Failed]
    assert (len(layer), layer.next_timer()) == (0, None)


def test_a_failure_after_a_provisional_ends_the_options() -> None:
    layer, tx = _client("OPTIONS")
    layer.receive(_answer(tx, 100), BOB, 0.1)
    layer.drain()
    layer.transport_failed(BOB, 0.2, tx)
    assert [type(output) for output in layer.drain()] == [Failed]
    assert len(layer) == 0


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
@pytest.mark.parametrize("status", [None, 180, 486])
def test_a_failed_answer_ends_the_server_transaction(method: str, status: int | None) -> None:
    layer, received = _server(request(method, via=VIA))
    if status is not None:
        layer.respond(received.tx, received.request.response(status, to_tag="b"), 0.1)
    layer.drain()
    layer.transport_failed(received.tx.hop, 0.2, received.tx)
    assert [type(output) for output in layer.drain()] == [Failed]
    assert (len(layer), layer.next_timer()) == (0, None)


@pytest.mark.parametrize("status", [180, 200, 404])
def test_each_answer_to_options_is_sent_and_passed_up(status: int) -> None:
    layer, received = _server(request("OPTIONS", via=VIA))
    layer.respond(received.tx, received.request.response(100), 0.0)
    layer.respond(received.tx, received.request.response(status, to_tag="b"), 0.1)
    assert _statuses(layer) == [100, status]
    client, tx = _client("OPTIONS")
    client.receive(_answer(tx, 100), BOB, 0.1)
    client.drain()
    client.receive(_answer(tx, status), BOB, 0.2)
    assert [type(output) for output in client.drain()] == [ResponseReceived]
    assert (tx.state is State.COMPLETED) == (status >= 200)


def test_a_lost_connection_ends_what_waits_on_it_and_nothing_else() -> None:
    layer = TransactionLayer()
    ends = layer.request(request(), TCP, "127.2.0.1", 0.0)
    any_link = layer.request(request("BYE"), TCP._replace(link=0), "127.2.0.1", 0.0)
    other_link = layer.request(request("BYE"), TCP._replace(link=8), "127.2.0.1", 0.0)
    datagram = layer.request(request("BYE"), BOB, "127.2.0.1", 0.0)
    layer.drain()
    layer.transport_failed(TCP, 1.0)
    failed = {output.tx for output in layer.drain() if isinstance(output, Failed)}
    assert failed == {ends, any_link}
    assert not other_link.terminated
    assert not datagram.terminated


def test_an_answered_invite_survives_its_connection() -> None:
    source = Hop("tcp", "127.2.0.1", 4000, 3)
    layer, received = _server(source=source)
    layer.respond(received.tx, received.request.response(200, to_tag="b"), 0.0)
    layer.drain()
    layer.transport_failed(source, 1.0)
    assert layer.drain() == []  # its 2xx is repeated by the core, over a new connection
    assert received.tx.hop == Hop("tcp", "127.2.0.1", 5060)
    layer.transport_failed(received.tx.hop, 2.0)
    assert [type(output) for output in layer.drain()] == [Failed]
    assert received.tx.state is State.ACCEPTED


def test_a_client_cancels_over_the_connection_that_it_came_back_on() -> None:
    """Its address is another one then: a phone that left the house."""
    old, new = Hop("wss", "127.2.0.1", 4000, 3), Hop("wss", "127.2.0.9", 5000, 4)
    value = "SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bKmoved"
    layer, received = _server(request(via=value), old)
    again = layer.request(request("BYE"), old, "127.2.0.1", 0.0)
    other = layer.request(request("BYE"), old._replace(link=5), "127.2.0.1", 0.0)
    layer.drain()
    layer.follow(old, new)
    assert (received.tx.hop, again.hop, other.hop.link) == (new, new, 5)
    cancel = request("CANCEL", via=value)
    assert layer.knows(cancel, new) and not layer.knows(cancel, old)
    layer.receive(cancel, new, 1.0)
    assert any(isinstance(output, CancelReceived) for output in layer.drain())
    layer.respond(received.tx, received.request.response(487, to_tag="b"), 1.0)
    (answer,) = layer.drain()
    assert isinstance(answer, Send) and answer.hop == new
    layer.transport_failed(new, 2.0)
    assert not other.terminated and again.terminated
    layer.transport_failed(other.hop, 2.0)
    layer.on_timer(40.0)
    assert len(layer) == 0


@pytest.mark.parametrize(
    ("source", "via", "listens"),
    [
        (Hop("tcp", "127.2.0.1", 4000, 3), "127.2.0.1:5099", Hop("tcp", "127.2.0.1", 5099)),
        (
            Hop("tls", "127.2.0.1", 4000, 3),
            "PBX.example",
            Hop("tls", "127.2.0.1", 5061, name="pbx.example"),
        ),
        (
            Hop("tls", "127.2.0.1", 4000, 3, "pbx.example"),  # it proved this name
            "127.2.0.1:5099",
            Hop("tls", "127.2.0.1", 5099, name="pbx.example"),
        ),
    ],
)
@pytest.mark.parametrize("status", [180, 486])
def test_answers_to_a_lost_connection_go_to_where_its_sender_listens(
    source: Hop, via: str, listens: Hop, status: int
) -> None:
    """RFC 3261 section 18.2.2: what was said last is said again, and shows if it is there."""
    value = f"SIP/2.0/{source.transport.upper()} {via};branch=z9hG4bKlost"
    layer, received = _server(request(via=value), source)
    layer.respond(received.tx, received.request.response(status, to_tag="b"), 0.0)
    layer.drain()
    layer.transport_failed(source, 1.0)
    (again,) = layer.drain()
    assert isinstance(again, Send)
    assert (again.hop, parse(again.data).status) == (listens, status)
    layer.transport_failed(listens, 2.0)
    assert [type(output) for output in layer.drain()] == [Failed]
    assert (len(layer), layer.next_timer()) == (0, None)


def test_a_client_stays_on_the_connection_that_answered() -> None:
    layer, tx = _client(hop=TCP._replace(link=0))
    layer.receive(_answer(tx, 180), TCP, 0.1)
    assert tx.hop == TCP
    layer.drain()
    layer.transport_failed(TCP._replace(link=8), 0.2)
    assert layer.drain() == []
    layer.transport_failed(TCP, 0.2)
    assert [type(output) for output in layer.drain()] == [Failed]


# --- without transactions, and many of them -------------------------------------------------


def test_the_ack_to_a_2xx_keeps_its_via_when_sent_again() -> None:
    layer = TransactionLayer()
    ack = request("ACK")
    layer.send(ack, BOB, "127.2.0.1:5060", 0.0)
    layer.send(ack, BOB, "127.2.0.1:5060", 1.0)
    one, two = layer.drain()
    assert isinstance(one, Send)
    assert isinstance(two, Send)
    assert one.data == two.data
    assert parse(one.data).via.branch is not None


def test_stopped_timers_do_not_pile_up() -> None:
    layer = TransactionLayer()
    for number in range(5000):
        tx = layer.request(request("BYE", cseq=number), TCP, "127.2.0.1", 0.0)
        layer.receive(_answer(tx, 200), TCP, 0.0)
        layer.drain()
    assert len(layer) == 0
    assert len(layer._store._heap) < 3000
    assert layer.next_timer() is None


# --- two layers over a bad link -------------------------------------------------------------


def _pair(seed: int, loss: float = 0.3) -> tuple[Link, Endpoint, Endpoint]:
    alice, bob = Endpoint(ALICE), Endpoint(BOB)
    link = Link(alice, bob, seed=seed, loss=loss, repeat=0.2, delay_s=(0.01, 0.9))
    return link, alice, bob


def _finals(endpoint: Endpoint, tx: Transaction) -> list[int]:
    return [
        output.response.status
        for _, output in endpoint.heard
        if isinstance(output, ResponseReceived) and output.tx is tx and output.response.status > 199
    ]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("method", ["INVITE", "BYE"])
def test_a_refusal_arrives_once_over_a_bad_link(method: str, seed: int) -> None:
    link, alice, bob = _pair(seed)

    def refuse(output: Output, now: float) -> None:
        if isinstance(output, RequestReceived):
            layer, answer = bob.layer, output.request.response(486, to_tag="b")
            link.at(now + 2.0, lambda: layer.respond(output.tx, answer, link.now))

    bob.user = refuse
    tx = alice.layer.request(request(method), BOB, alice.sent_by, 0.0)
    link.run()
    assert sum(isinstance(output, RequestReceived) for _, output in bob.heard) == 1
    assert _finals(alice, tx) == [486]
    assert not any(isinstance(output, AckTimedOut | TimedOut) for _, output in bob.heard)
    assert len(alice.layer) == len(bob.layer) == 0


@pytest.mark.parametrize("seed", range(25))
def test_a_call_is_answered_over_a_bad_link(seed: int) -> None:
    """The user repeats its 2xx until the ACK comes (RFC 3261 section 13.3.1.4)."""
    link, alice, bob = _pair(seed)
    acked: list[float] = []

    def answer(output: Output, now: float) -> None:
        if isinstance(output, AckReceived):
            acked.append(now)
        if isinstance(output, RequestReceived):
            bob.layer.respond(output.tx, output.request.response(180, to_tag="b"), now)
            final = output.request.response(200, to_tag="b")
            for gap in (1.0, 1.5, 2.5, 4.5, 8.5, 12.5, 16.5, 20.5):

                def repeat() -> None:
                    if not acked:
                        bob.layer.respond(output.tx, final, link.now)

                link.at(now + gap, repeat)

    def acknowledge(output: Output, now: float) -> None:
        if isinstance(output, ResponseReceived) and output.response.status == 200:
            ack = request("ACK", to=output.response.headers.get("To") or "")
            alice.layer.send(ack, BOB, alice.sent_by, now)

    bob.user, alice.user = answer, acknowledge
    tx = alice.layer.request(request(), BOB, alice.sent_by, 0.0)
    link.run()
    assert sum(isinstance(output, RequestReceived) for _, output in bob.heard) == 1
    assert set(_finals(alice, tx)) == {200}
    assert acked
    assert len(alice.layer) == len(bob.layer) == 0


@pytest.mark.parametrize("seed", range(25))
def test_a_cancel_ends_the_call_over_a_bad_link(seed: int) -> None:
    """487, or the 200 that crossed the CANCEL; never both, never neither."""
    link, alice, bob = _pair(seed, loss=0.2)
    invites: list[InviteServerTransaction] = []

    def serve(output: Output, now: float) -> None:
        if isinstance(output, RequestReceived):
            assert isinstance(output.tx, InviteServerTransaction)
            invites.append(output.tx)
            final = output.request.response(200, to_tag="b")
            for gap in (3.0, 4.0, 5.0, 7.0, 11.0, 15.0):
                link.at(now + gap, lambda: _answer_if_open(bob.layer, output, final, link))
        if isinstance(output, CancelReceived):
            final = output.invite_tx.request.response(487, to_tag="b")
            bob.layer.respond(output.invite_tx, final, now)

    cancelled: list[float] = []

    def give_up(output: Output, now: float) -> None:
        if isinstance(output, ResponseReceived) and output.response.status < 200 and not cancelled:
            cancelled.append(now)
            link.at(now + 1.0, lambda: _cancel(alice.layer, tx, link))

    bob.user, alice.user = serve, give_up
    tx = alice.layer.request(request(), BOB, alice.sent_by, 0.0)
    link.run()
    assert len(invites) == 1
    assert set(_finals(alice, tx)) in ({200}, {487})
    assert sum(isinstance(output, CancelReceived) for _, output in bob.heard) <= 1
    assert len(alice.layer) == len(bob.layer) == 0


def _cancel(layer: TransactionLayer, tx: Transaction, link: Link) -> None:
    assert isinstance(tx, InviteClientTransaction)
    layer.cancel(tx, link.now)


def _answer_if_open(
    layer: TransactionLayer, output: RequestReceived, final: Response, link: Link
) -> None:
    if output.tx.state in (State.PROCEEDING, State.ACCEPTED):
        layer.respond(output.tx, final, link.now)
