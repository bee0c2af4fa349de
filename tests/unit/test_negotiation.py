"""One call's offers and answers across the relay: what each leg is told, what the engine gets."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest

from relay.call.end import Party
from relay.call.negotiation import Negotiation
from relay.call.ports import LegMedia, MediaAddress, Side
from relay.errors import MalformedSdp, NotAcceptable, WrongAnswer
from relay.sdp.crypto import OFF, Srtp, parse_crypto
from relay.sdp.description import SUITES, Fingerprint, IceCredentials, SrtpKey

ENGINE = SimpleNamespace(fingerprint=Fingerprint("sha-256", bytes(32)), transcodes=True)
CALLER, CALLEE = Side.CALLER, Side.CALLEE
CM80, CM32 = "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"
REQUIRED = Srtp("required", (CM80, CM32))
OPTIONAL = Srtp("optional", (CM80, CM32))
K1 = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
K2 = "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR"
K3 = "NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj"


class Media:
    """Ports without sockets; keeps every update."""

    def __init__(self) -> None:
        self.updates: dict[Side, list[LegMedia]] = {side: [] for side in Side}

    def local(self, side: Side) -> MediaAddress:
        if side is CALLER:
            return MediaAddress("198.51.100.7", 20000, 20001)
        return MediaAddress("2001:db8::7", 20002, 20003)

    def check(self, side: Side, remote: MediaAddress) -> None:
        """Every address will do."""

    def offer(self, side: Side, ours: IceCredentials) -> None:
        """Nobody checks."""

    def update(self, side: Side, leg: LegMedia) -> None:
        self.updates[side].append(leg)

    def last(self, side: Side) -> LegMedia:
        return self.updates[side][-1]


class Pair:
    """A negotiation, its media, and short words for what the peers say."""

    def __init__(self, caller: Srtp = OFF, callee: Srtp = OFF, first: int = 1) -> None:
        self.media = Media()
        octets = count(first)
        self.negotiation = Negotiation(
            self.media,  # type: ignore[arg-type]
            ENGINE,  # type: ignore[arg-type]
            {CALLER: Party(caller), CALLEE: Party(callee)},
            1000,
            lambda side, at: True,
            lambda size: bytes([next(octets)]) * size,
        )

    def offer(self, *lines: str, side: Side = CALLER, **how: str) -> list[str]:
        return self.negotiation.offer(side, sdp(*lines, **how)).decode().splitlines()

    def answer(self, *lines: str, side: Side = CALLEE, **how: str) -> list[str]:
        return self.negotiation.answer(side, sdp(*lines, **how)).decode().splitlines()

    def exchange(
        self, offer: tuple[str, ...], answer: tuple[str, ...], side: Side = CALLER
    ) -> tuple[list[str], list[str]]:
        """A whole one: what the answerer was offered, what the offerer was answered."""
        told = self.offer(*offer, side=side, host=HOSTS[side])
        back = self.answer(*answer, side=side.other, host=HOSTS[side.other])
        self.negotiation.close()
        return told, back


HOSTS = {CALLER: "192.0.2.1", CALLEE: "192.0.2.2"}


def sdp(*lines: str, host: str = "192.0.2.1", session: str = "t=0 0") -> bytes:
    kind = "IP6" if ":" in host else "IP4"
    start = ["v=0", f"o=phone 1 1 IN {kind} {host}", "s=-", f"c=IN {kind} {host}", session]
    return "\r\n".join([*start, *(lines or (AUDIO,)), ""]).encode()


AUDIO = "m=audio 4000 RTP/AVP 0 8"
SAVP = "m=audio 4000 RTP/SAVP 0 8"


def crypto(key: str, tag: int = 1, suite: str = CM80) -> str:
    return f"a=crypto:{tag} {suite} inline:{key}"


def cryptos(lines: list[str]) -> list[str]:
    return [line for line in lines if "crypto" in line]


def profile(lines: list[str]) -> str:
    return next(line for line in lines if line.startswith("m=audio")).split()[2]


def version(lines: list[str]) -> int:
    return int(lines[1].split()[2])


def key(text: str, suite: str = CM80) -> SrtpKey:
    return parse_crypto(f"1 {suite} inline:{text}").keys[0]


# --- SRTP, on each leg by itself


def test_srtp_towards_plain_rtp() -> None:
    call = Pair(caller=REQUIRED)
    told, back = call.exchange((SAVP, crypto(K1, 5)), (AUDIO,))
    assert (profile(told), cryptos(told)) == ("RTP/AVP", [])
    assert profile(back) == "RTP/SAVP"
    (line,) = cryptos(back)
    assert line.startswith(f"a=crypto:5 {CM80} inline:")
    srtp = call.media.last(CALLER).srtp
    assert srtp is not None
    assert srtp.receive == (key(K1),)
    assert srtp.send == key(line.rpartition("inline:")[2])
    assert call.media.last(CALLEE).srtp is None


def test_plain_rtp_towards_srtp() -> None:
    call = Pair(callee=REQUIRED)
    told = call.offer(AUDIO)
    assert profile(told) == "RTP/SAVP"
    assert [line.split()[:2] for line in cryptos(told)] == [
        ["a=crypto:1", CM80],
        ["a=crypto:2", CM32],
    ]
    back = call.answer(SAVP, crypto(K2, 2, CM32))
    assert (profile(back), cryptos(back)) == ("RTP/AVP", [])
    srtp = call.media.last(CALLEE).srtp
    assert srtp is not None
    assert srtp.receive == (key(K2, CM32),)
    assert srtp.send == key(cryptos(told)[1].rpartition("inline:")[2], CM32)


def test_srtp_towards_srtp_with_another_suite_and_nothing_crosses() -> None:
    """No key, tag or suite of one leg is ever in a description of the other."""
    call = Pair(caller=REQUIRED, callee=REQUIRED)
    odd = f"a=acap:1 crypto:1 {CM80} inline:{K3}"
    told, back = call.exchange(
        (SAVP, crypto(K1, 41), crypto(K3, 42, CM32), odd, "a=crypto"),
        (SAVP, crypto(K2, 2, CM32), f"a=x-unknown:INLINE:{K3}", "a=key-mgmt:mikey AQAF"),
    )
    for text in ("\n".join(told), "\n".join(back)):
        assert not any(secret in text for secret in (K1, K2, K3))
        assert "mikey" not in text
    assert ":41 " not in "\n".join(told)
    assert [line.split()[:2] for line in cryptos(back)] == [["a=crypto:41", CM80]]
    caller, callee = call.media.last(CALLER).srtp, call.media.last(CALLEE).srtp
    assert caller and callee
    sent = {caller.send.key, callee.send.key}
    assert len(sent) == 2
    assert (caller.send.suite, callee.send.suite) == (CM80, CM32)


def test_feedback_profiles_keep_their_feedback() -> None:
    call = Pair(callee=REQUIRED)
    feedback = ("m=audio 4000 RTP/AVPF 0", "a=rtcp-fb:* nack")
    answer = ("m=audio 5000 RTP/SAVPF 0", crypto(K2), "a=rtcp-fb:* nack")
    told, back = call.exchange(feedback, answer)
    assert (profile(told), profile(back)) == ("RTP/SAVPF", "RTP/AVPF")
    assert "a=rtcp-fb:* nack" in told
    assert "a=rtcp-fb:* nack" in back


@pytest.mark.parametrize("taken", [True, False])
def test_best_effort_towards_the_callee(taken: bool) -> None:
    call = Pair(callee=OPTIONAL)
    answer = ("m=audio 5000 RTP/AVP 0", *([crypto(K2)] if taken else []))
    told, back = call.exchange((AUDIO,), answer)
    assert (profile(told), len(cryptos(told))) == ("RTP/AVP", 2)
    assert cryptos(back) == []
    assert (call.media.last(CALLEE).srtp is not None) == taken


def test_best_effort_of_the_caller_is_answered_in_kind() -> None:
    call = Pair(caller=OPTIONAL)
    _, back = call.exchange((AUDIO, crypto(K1, 3)), (AUDIO,))
    assert profile(back) == "RTP/AVP"
    assert cryptos(back)[0].startswith("a=crypto:3 ")


def test_of_two_streams_the_one_that_the_trunk_wants() -> None:
    """Old best effort: the same audio once as RTP/SAVP and once as RTP/AVP."""
    two = (SAVP, crypto(K1), "m=audio 4002 RTP/AVP 0")
    _, back = Pair(caller=OPTIONAL).exchange(two, (AUDIO, "m=audio 0 RTP/AVP 0"))
    assert [line for line in back if line.startswith("m=")] == [
        "m=audio 20000 RTP/SAVP 0 8",
        "m=audio 0 RTP/AVP 0",
    ]
    told, _ = Pair().exchange(two, ("m=audio 0 RTP/AVP 0", AUDIO))
    assert [line for line in told if line.startswith("m=")] == [
        "m=audio 0 RTP/SAVP 0 8",
        "m=audio 20002 RTP/AVP 0",
    ]


def test_a_plain_offer_on_a_trunk_that_requires_srtp() -> None:
    call = Pair(caller=REQUIRED)
    with pytest.raises(NotAcceptable) as error:
        call.offer(AUDIO)
    assert str(error.value) == "this trunk requires SRTP (a=crypto with RTP/SAVP)"
    assert error.value.status_hint == 488
    assert not call.negotiation.open
    assert call.offer(SAVP, crypto(K1))


def test_an_answer_that_is_not_what_was_offered_changes_nothing() -> None:
    """CVE-2025-53399: tags that nobody offered."""
    call = Pair(callee=REQUIRED)
    call.exchange((AUDIO,), (SAVP, crypto(K2)))
    before = {side: list(call.media.updates[side]) for side in Side}
    call.offer(AUDIO)
    with pytest.raises(WrongAnswer, match="tag 9 was not offered"):
        call.answer(SAVP, crypto(K3, 9))
    call.negotiation.close()
    assert call.media.updates == before


def test_hold_and_resume_keep_the_keys() -> None:
    call = Pair(caller=REQUIRED, callee=REQUIRED)
    call.exchange((SAVP, crypto(K1)), (SAVP, crypto(K2)))
    keys = {side: call.media.last(side).srtp for side in Side}
    for direction, back in (("sendonly", "recvonly"), ("sendrecv", "sendrecv")):
        call.exchange((SAVP, crypto(K1), f"a={direction}"), (SAVP, crypto(K2), f"a={back}"))
        assert {side: call.media.last(side).srtp for side in Side} == keys
    call.exchange((SAVP, crypto(K2)), (SAVP, crypto(K1)), side=CALLEE)
    assert {side: call.media.last(side).srtp for side in Side} == keys


def test_a_refresh_without_change_keeps_the_version() -> None:
    call = Pair(caller=REQUIRED, callee=REQUIRED)
    both = ((SAVP, crypto(K1)), (SAVP, crypto(K2)))
    call.exchange(*both)  # the first offer has all suites, the next ones what was agreed
    told, back = call.exchange(*both)
    again = call.exchange(*both)
    assert again == (told, back)
    told, back = call.exchange((SAVP, crypto(K3)), both[1])
    assert (version(told), version(back)) == (version(again[0]), version(again[1]) + 1)


def test_a_new_key_by_re_invite() -> None:
    """The leg that re-keys gets a new key of ours, the other leg notices nothing."""
    call = Pair(caller=REQUIRED, callee=REQUIRED)
    call.exchange((SAVP, crypto(K1)), (SAVP, crypto(K2)))
    caller, callee = (call.media.last(side).srtp for side in (CALLER, CALLEE))
    updates = len(call.media.updates[CALLEE])
    call.exchange((SAVP, crypto(K3)), (SAVP, crypto(K2)))
    renewed = call.media.last(CALLER).srtp
    assert caller and renewed
    assert renewed.receive == (key(K3),)
    assert renewed.send != caller.send
    assert call.media.last(CALLEE).srtp == callee
    assert len(call.media.updates[CALLEE]) == updates


def test_several_keys_with_an_mki_are_all_received() -> None:
    call = Pair(caller=REQUIRED)
    line = f"a=crypto:1 {CM80} inline:{K1}|2^20|1:4;inline:{K2}|2^20|2:4"
    call.exchange((SAVP, line), (AUDIO,))
    srtp = call.media.last(CALLER).srtp
    assert srtp is not None
    assert [(k.key + k.salt, k.mki) for k in srtp.receive] == [
        (key(K1).key + key(K1).salt, b"\0\0\0\1"),
        (key(K2).key + key(K2).salt, b"\0\0\0\2"),
    ]
    assert srtp.send.mki == b""


def test_another_branch_answers_the_same_offer() -> None:
    """Early media of one phone, then another one answers: its address and its key hold."""
    call = Pair(caller=REQUIRED, callee=REQUIRED)
    call.offer(SAVP, crypto(K1))
    first = call.answer(SAVP, crypto(K2), host="192.0.2.2")
    second = call.answer(SAVP, crypto(K3, 2, CM32), host="192.0.2.3")
    assert cryptos(first) == cryptos(second)  # the caller's leg is one and the same
    media = call.media.last(CALLEE)
    assert media.remote is not None and media.remote.host == "192.0.2.3"
    assert media.srtp is not None and media.srtp.receive == (key(K3, CM32),)


def test_a_delayed_offer() -> None:
    """The callee offers, the caller answers in its ACK."""
    call = Pair(caller=REQUIRED, callee=OPTIONAL)
    told, back = call.exchange((AUDIO, crypto(K2, 8)), (SAVP, crypto(K1, 2, CM32)), side=CALLEE)
    assert (profile(told), len(cryptos(told))) == ("RTP/SAVP", 2)
    assert (profile(back), cryptos(back)[0][:11]) == ("RTP/AVP", "a=crypto:8 ")
    assert call.media.last(CALLER).srtp and call.media.last(CALLEE).srtp


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite(suite: str) -> None:
    """What one relay offers, another one answers: both have the same two keys."""
    only = Srtp("required", (suite,))
    one, other = Pair(callee=only), Pair(caller=only, first=9)
    other.negotiation.offer(CALLER, one.negotiation.offer(CALLER, sdp(AUDIO)))
    one.negotiation.answer(CALLEE, other.negotiation.answer(CALLEE, sdp(AUDIO)))
    ours, theirs = one.media.last(CALLEE).srtp, other.media.last(CALLER).srtp
    assert ours and theirs
    assert (ours.receive, ours.send) == ((theirs.send,), theirs.receive[0])
    assert ours.send.suite == suite


# --- said again, and taken back


@pytest.mark.parametrize("side", Side)
def test_what_a_side_was_told_may_be_said_again(side: Side) -> None:
    """A session refresh of ours: the peer repeats its answer, or moves with it."""
    call = Pair(caller=REQUIRED, callee=REQUIRED)
    texts = {CALLER: (SAVP, crypto(K1)), CALLEE: (SAVP, crypto(K2))}
    told, back = call.exchange(texts[CALLER], texts[CALLEE])
    said = call.negotiation.current(side).decode().splitlines()
    assert said == (back if side is CALLER else told)
    before = {each: list(call.media.updates[each]) for each in Side}
    call.negotiation.reaffirm(side, sdp(*texts[side], host=HOSTS[side]))
    assert call.media.updates == before
    call.negotiation.reaffirm(side, sdp(*texts[side], host="192.0.2.77"))
    remote = call.media.last(side).remote
    assert remote is not None and remote.host == "192.0.2.77"
    assert call.media.updates[side.other] == before[side.other]
    with pytest.raises(WrongAnswer, match="tag 9"):
        call.negotiation.reaffirm(side, sdp(SAVP, crypto(K3, 9)))


def test_an_offer_that_only_repeats_is_answered_from_memory() -> None:
    call = Pair(caller=REQUIRED)
    offer = sdp(SAVP, crypto(K1))
    call.offer(SAVP, crypto(K1))
    back = call.answer(AUDIO)
    call.negotiation.close()
    assert call.negotiation.repeated(CALLER, offer).decode().splitlines() == back
    assert call.negotiation.repeated(CALLEE, offer) == b""
    assert call.negotiation.repeated(CALLER, sdp(SAVP, crypto(K2))) == b""


def test_an_offer_that_failed_is_forgotten() -> None:
    """Neither its keys nor its words are left when something else is agreed afterwards."""
    call = Pair(caller=REQUIRED, callee=REQUIRED)
    call.exchange((SAVP, crypto(K1)), (SAVP, crypto(K2)))
    said = call.negotiation.current(CALLEE)
    keys = call.media.last(CALLER).srtp
    call.offer(SAVP, crypto(K3), "a=sendonly")
    call.negotiation.close()  # the callee refused it
    assert call.negotiation.current(CALLEE) == said
    call.negotiation.reaffirm(CALLEE, sdp(SAVP, crypto(K2), host="192.0.2.77"))
    assert call.media.last(CALLER).srtp == keys


# --- hold, in every style


@pytest.mark.parametrize(
    ("offer", "told", "answer", "back"),
    [
        ("sendonly", "sendonly", "recvonly", "recvonly"),
        ("sendonly", "sendonly", "inactive", "inactive"),
        ("sendonly", "sendonly", "sendrecv", "recvonly"),  # wrong, and common
        ("sendonly", "sendonly", "sendonly", "inactive"),
        ("inactive", "inactive", "sendrecv", "inactive"),
        ("recvonly", "recvonly", "sendonly", "sendonly"),
        ("recvonly", "recvonly", "sendrecv", "sendonly"),
        ("sendrecv", "sendrecv", "recvonly", "recvonly"),
    ],
)
def test_the_answer_fits_the_direction(offer: str, told: str, answer: str, back: str) -> None:
    call = Pair()
    offered, answered = call.exchange((AUDIO, f"a={offer}"), (AUDIO, f"a={answer}"))
    assert [line for line in offered if line[2:] == told] == [f"a={told}"]
    assert [line for line in answered if line[2:] in DIRECTIONS] == [f"a={back}"]
    assert call.media.last(CALLEE).may_send == (back in ("sendrecv", "sendonly"))
    assert call.media.last(CALLER).may_send == (back in ("sendrecv", "recvonly"))


DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_hold_by_address_and_resume(host: str) -> None:
    call = Pair()
    call.exchange((AUDIO,), (AUDIO,))
    told = call.offer(AUDIO, host=host)
    assert "a=sendonly" in told
    assert "c=IN IP6 2001:db8::7" in told
    assert "a=recvonly" in call.answer(AUDIO)  # it says nothing: sendrecv
    call.negotiation.close()
    assert (call.media.last(CALLER).remote, call.media.last(CALLEE).may_send) == (None, False)
    assert call.media.last(CALLER).may_send
    call.exchange((AUDIO,), (AUDIO,))
    assert call.media.last(CALLER).remote == MediaAddress("192.0.2.1", 4000, 4001)
    assert call.media.last(CALLEE).may_send


def test_both_sides_hold_and_one_resumes() -> None:
    call = Pair()
    call.exchange((AUDIO, "a=sendonly"), (AUDIO, "a=recvonly"))
    call.exchange((AUDIO, "a=sendonly"), (AUDIO, "a=inactive"), side=CALLEE)
    assert not call.media.last(CALLER).may_send
    assert not call.media.last(CALLEE).may_send
    call.exchange((AUDIO,), (AUDIO, "a=sendonly"), side=CALLEE)
    assert call.media.last(CALLER).may_send
    assert not call.media.last(CALLEE).may_send


def test_session_wide_directions_are_answered_too() -> None:
    call = Pair()
    call.offer(AUDIO, session="t=0 0\r\na=sendonly")
    back = call.answer(AUDIO, session="t=0 0\r\na=sendrecv")
    assert back[-2:].count("a=recvonly") == 1


# --- changes in the middle of a call


def test_a_peer_moves() -> None:
    call = Pair()
    call.exchange((AUDIO,), (AUDIO,))
    updates = len(call.media.updates[CALLEE])
    told = call.offer("m=audio 4444 RTP/AVP 0 8", host="192.0.2.99")
    call.answer(AUDIO, host="192.0.2.2")
    assert version(told) == 0  # nothing of it concerns the callee
    assert call.media.last(CALLER).remote == MediaAddress("192.0.2.99", 4444, 4445)
    assert len(call.media.updates[CALLEE]) == updates


def test_the_codec_changes() -> None:
    call = Pair()
    call.exchange((AUDIO,), ("m=audio 5000 RTP/AVP 0",))
    assert call.negotiation.codec() == "PCMU"
    call.exchange(("m=audio 5000 RTP/AVP 8",), ("m=audio 4000 RTP/AVP 8",), side=CALLEE)
    assert call.negotiation.codec() == "PCMA"
    assert call.media.last(CALLER).payload_types == {8}


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        (sdp(AUDIO).replace(b"c=IN IP4 192.0.2.1\r\n", b""), MalformedSdp, "no c= line"),
        (sdp("m=audio 70000 RTP/AVP 0"), MalformedSdp, "port is not 0 to 65535"),
        (sdp("m=audio"), MalformedSdp, "m= needs"),
        (sdp("m=audio 0 RTP/AVP 0"), NotAcceptable, "no audio"),
        (sdp("m=audio 4000 UDP/TLS/RTP/SAVPF 0"), NotAcceptable, "UDP/TLS/RTP/SAVPF is not"),
        (sdp("m=audio 4000 PSST/AVP 0"), NotAcceptable, "this profile is not carried"),
        (b"", MalformedSdp, "v=0"),
    ],
)
def test_impossible_descriptions(body: bytes, error: type[Exception], text: str) -> None:
    """As an offer they are refused; as an answer the one who offered is not to blame."""
    call = Pair()
    call.exchange((AUDIO,), (AUDIO,))
    before = {side: list(call.media.updates[side]) for side in Side}
    with pytest.raises(error, match=text):
        call.negotiation.offer(CALLER, body)
    assert not call.negotiation.open
    call.offer(AUDIO)
    with pytest.raises(WrongAnswer) as wrong:
        call.negotiation.answer(CALLEE, body)
    assert wrong.value.status_hint == 502
    assert call.media.updates == before


def test_rtcp_is_muxed_on_each_leg_by_itself() -> None:
    call = Pair()
    told, back = call.exchange((AUDIO, "a=rtcp-mux"), (AUDIO, "a=rtcp:5009"))
    assert {"a=rtcp-mux", "a=rtcp:20003"} <= set(told)
    assert "a=rtcp-mux" in back
    remotes = [call.media.last(side).remote for side in (CALLER, CALLEE)]
    assert [remote.rtcp_port for remote in remotes if remote] == [4000, 5009]


# --- payload types


def events(number: int) -> tuple[str, ...]:
    return (f"m=audio 4000 RTP/AVP 0 8 {number}", f"a=rtpmap:{number} telephone-event/8000")


def test_the_usual_call_needs_no_map() -> None:
    call = Pair()
    call.exchange(events(101), events(101))
    for side in Side:
        assert call.media.last(side).payload_map == ()
        assert call.media.last(side).telephone_event == 101


def test_numbers_differ_in_the_answer() -> None:
    """RFC 3264 section 6.1: each sends by the other's numbers, which cross unchanged.

    Who sends by its own is understood all the same.
    """
    call = Pair()
    told, back = call.exchange(events(101), events(96))
    assert told[5].endswith(" 101")
    assert back[5].endswith(" 96")
    caller, callee = call.media.last(CALLER), call.media.last(CALLEE)
    assert (caller.telephone_event, caller.payload_map) == (96, ((101, 96),))
    assert (callee.telephone_event, callee.payload_map) == (101, ((96, 101),))
    assert {96, 101} <= caller.payload_types


def test_a_number_that_the_partner_gave_to_another_codec_is_the_partners() -> None:
    opus = ("m=audio 4000 RTP/AVP 101 96", "a=rtpmap:101 opus/48000/2")
    call = Pair()
    call.exchange(events(101), (*opus, "a=rtpmap:96 telephone-event/8000"))
    assert call.media.last(CALLER).payload_map == ()
    assert call.media.last(CALLER).telephone_event == 96


def test_two_packings_of_one_codec_are_not_guessed() -> None:
    amr = ("m=audio 4000 RTP/AVP 97 98", "a=rtpmap:97 AMR/8000", "a=rtpmap:98 AMR/8000")
    call = Pair()
    call.exchange(("m=audio 4000 RTP/AVP 96", "a=rtpmap:96 AMR/8000"), amr)
    assert call.media.last(CALLER).payload_map == ()


def test_events_of_the_voices_clock_are_those_that_are_pressed() -> None:
    two = (
        "m=audio 4000 RTP/AVP 100 101 96",
        "a=rtpmap:100 telephone-event/48000",
        "a=rtpmap:101 telephone-event/8000",
        "a=rtpmap:96 PCMU/8000",
    )
    call = Pair()
    call.exchange(two, two)
    assert call.media.last(CALLER).telephone_event == 101
