"""Offers and answers of voice clients: ICE, DTLS and BUNDLE (RFC 8829, 8839, 8842, 8843)."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest

from relay.call.end import Party
from relay.call.negotiation import Negotiation
from relay.call.ports import MediaAddress, Side
from relay.errors import NotAcceptable, WrongAnswer
from relay.sdp.crypto import OFF, Srtp
from relay.sdp.description import Fingerprint, IceDtls
from tests.unit.browsers import (
    BROWSERS,
    DATA,
    NEW_PWD,
    NEW_UFRAG,
    OTHER_SHA256,
    PWD,
    SHA256,
    UFRAG,
    VIDEO,
    attributes,
    describe,
    sections,
)
from tests.unit.test_negotiation import K1, REQUIRED, Media, crypto, sdp

CALLER, CALLEE = Side.CALLER, Side.CALLEE
DTLS = Srtp("dtls")
OURS = Fingerprint("sha-256", bytes(range(32)))
TRUNK = "m=audio 5000 RTP/AVP 0 8 101"
EVENTS = "a=rtpmap:101 telephone-event/8000"
NEW = (NEW_UFRAG, NEW_PWD)


def party(security: Srtp, wanted: bool = True) -> Party:
    return Party(security, transcode=wanted if security.mode == "dtls" else None)


class Pair:
    """A negotiation between two sides, one of them or both voice clients."""

    def __init__(
        self, caller: Srtp = DTLS, callee: Srtp = OFF, built: bool = False, wanted: bool = True
    ) -> None:
        """`built` and `wanted` say whether the engine and the account transcode."""
        self.media = Media()
        octets = count(1)
        self.negotiation = Negotiation(
            self.media,  # type: ignore[arg-type]
            SimpleNamespace(fingerprint=OURS, transcodes=built),  # type: ignore[arg-type]
            {CALLER: party(caller, wanted), CALLEE: party(callee, wanted)},
            1000,
            lambda side, at: at.host.startswith("192.0.2."),
            lambda size: bytes([next(octets)]) * size,
        )

    def offer(self, body: bytes, side: Side = CALLER) -> bytes:
        return self.negotiation.offer(side, body)

    def answer(self, body: bytes, side: Side = CALLEE) -> bytes:
        return self.negotiation.answer(side, body)

    def exchange(self, offer: bytes, answer: bytes, side: Side = CALLER) -> tuple[bytes, bytes]:
        """A whole one: what the answerer was offered, what the offerer was answered."""
        told = self.offer(offer, side)
        back = self.answer(answer, side.other)
        self.negotiation.close()
        return told, back

    def ice(self, side: Side) -> IceDtls:
        leg = self.media.last(side)
        assert leg.webrtc is not None and leg.remote is None and leg.srtp is None
        return leg.webrtc


# --- a client calls


@pytest.mark.parametrize("browser", BROWSERS)
def test_what_a_trunk_is_offered_has_nothing_of_the_browser_but_its_codecs(browser: str) -> None:
    call = Pair()
    told = call.offer(describe(browser))
    allowed = ("a=rtpmap:", "a=fmtp:", "a=sendrecv", "a=rtcp:20003")
    lines = told.decode().splitlines()
    assert sections(told) == [f"m=audio 20002 RTP/AVP {BROWSERS[browser].formats}"]
    assert [line for line in lines if line[0] == "a" and not line.startswith(allowed)] == []
    assert lines[:5] == [
        "v=0",
        "o=- 1001 0 IN IP6 2001:db8::7",
        "s=-",
        "c=IN IP6 2001:db8::7",
        "t=0 0",
    ]


@pytest.mark.parametrize("browser", ["chromium", "firefox", "safari"])
def test_what_a_browser_is_answered(browser: str) -> None:
    call = Pair()
    call.offer(describe(browser))
    back = call.answer(sdp(TRUNK, EVENTS))
    ice = call.ice(CALLER)
    assert back.decode().splitlines() == [
        "v=0",
        "o=- 1000 0 IN IP4 198.51.100.7",
        "s=-",
        "c=IN IP4 198.51.100.7",
        "t=0 0",
        "a=group:BUNDLE 0",
        "a=ice-lite",
        "a=ice-options:ice2",
        "m=audio 20000 UDP/TLS/RTP/SAVPF 0 8 101",
        EVENTS,
        "a=sendrecv",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=mid:0",
        "a=msid:voice audio",
        "a=rtcp-mux",
        "a=setup:passive",
        f"a=fingerprint:{OURS}",
        f"a=ice-ufrag:{ice.local_ufrag}",
        f"a=ice-pwd:{ice.local_pwd}",
        "a=candidate:1 1 UDP 2130706431 198.51.100.7 20000 typ host",
        "a=end-of-candidates",
    ]
    assert (ice.remote_ufrag, ice.remote_pwd) == (UFRAG, PWD)
    assert Fingerprint("sha-256", bytes(range(0x40, 0x60))) in ice.fingerprints
    assert not ice.dtls_client
    assert call.media.last(CALLEE).remote == MediaAddress("192.0.2.1", 5000, 5001)
    assert call.negotiation.suite(CALLER) == "DTLS"


def test_video_and_data_are_refused_and_left_out_of_the_group() -> None:
    call = Pair()
    told = call.offer(describe(more=(*VIDEO, *DATA), group="0 1 2"))
    assert [line.split()[:2] for line in sections(told)] == [
        ["m=audio", "20002"],
        ["m=video", "0"],
        ["m=application", "0"],
    ]
    assert not attributes(told, "mid")
    back = call.answer(sdp(TRUNK, "m=video 0 RTP/AVP 96", "m=application 0 X/Y z"))
    assert sections(back)[1:] == [VIDEO[0].replace(" 9 ", " 0 "), DATA[0].replace(" 9 ", " 0 ")]
    assert attributes(back, "group") == ["BUNDLE 0"]
    assert attributes(back, "mid") == ["0", "1", "2"]
    assert len(attributes(back, "ice-ufrag")) == 1


def test_audio_that_is_not_the_first_line() -> None:
    call = Pair()
    told = call.offer(describe(before=VIDEO, group="1 0"))
    back = call.answer(sdp("m=video 0 RTP/AVP 96", TRUNK))
    for body, port in ((told, 20002), (back, 20000)):
        assert [line.split()[1] for line in sections(body)] == ["0", str(port)]
    assert attributes(back, "group") == ["BUNDLE 0"]


def test_an_offer_without_bundle_or_mid_is_answered_without() -> None:
    call = Pair()
    _, back = call.exchange(describe(without=("a=mid", "a=group")), sdp(TRUNK))
    assert not attributes(back, "mid") and not attributes(back, "group")
    _, back = Pair().exchange(describe(without=("a=group",)), sdp(TRUNK))
    assert attributes(back, "mid") == ["0"] and not attributes(back, "group")


@pytest.mark.parametrize(
    ("setup", "answered", "client"),
    [("actpass", "passive", False), ("active", "passive", False), ("passive", "active", True)],
)
def test_roles_of_an_offer(setup: str, answered: str, client: bool) -> None:
    call = Pair()
    _, back = call.exchange(describe(setup=setup), sdp(TRUNK))
    assert attributes(back, "setup") == [answered]
    assert call.ice(CALLER).dtls_client == client


def test_ice_and_dtls_of_the_whole_session() -> None:
    lines = (f"a=ice-ufrag:{UFRAG}", f"a=ice-pwd:{PWD}", "a=setup:active")
    lines = (*lines, f"a=fingerprint:SHA-256 {SHA256.lower()}")
    body = describe(without=("a=ice-", "a=setup", "a=fingerprint")).decode()
    body = body.replace("t=0 0\r\n", "\r\n".join(["t=0 0", *lines, ""]))
    call = Pair()
    call.exchange(body.encode(), sdp(TRUNK))
    assert call.ice(CALLER).remote_ufrag == UFRAG
    assert call.ice(CALLER).fingerprints == (Fingerprint("sha-256", bytes(range(0x40, 0x60))),)


def test_candidates_and_addresses_of_the_client_are_not_looked_at() -> None:
    """They may be anywhere: what is heard is who proves the password inside the region."""
    body = describe().replace(b"c=IN IP4 0.0.0.0", b"c=IN IP4 203.0.113.66")
    call = Pair()
    call.exchange(body, sdp(TRUNK))
    assert call.media.last(CALLER).remote is None
    assert call.media.last(CALLER).may_receive and call.media.last(CALLER).may_send
    told, _ = Pair().exchange(describe(without=("c=",)), sdp(TRUNK))
    assert b"203.0.113" not in told


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"without": ("a=ice-ufrag",)}, "a=ice-ufrag or a=ice-pwd is missing"),
        ({"without": ("a=ice-pwd",)}, "a=ice-ufrag or a=ice-pwd is missing"),
        ({"credentials": ("a:b", PWD)}, "not of the form of RFC 8839"),
        ({"credentials": (UFRAG, "short")}, "not of the form of RFC 8839"),
        ({"credentials": (UFRAG * 65, PWD)}, "not of the form of RFC 8839"),
        ({"without": ("a=fingerprint",)}, "a=fingerprint is missing"),
        ({"fingerprint": SHA256[:-3]}, "a sha-256 is 32 octets in hex"),
        ({"fingerprint": SHA256.replace(":", "-")}, "a sha-256 is 32 octets in hex"),
        ({"without": ("a=rtcp-mux",)}, "a=rtcp-mux is missing"),
        ({"setup": "holdconn"}, "a=setup of an offer is actpass, active or passive"),
        ({"more": ("a=x",), "before": ("a=ice-lite",)}, "the relay is ICE-lite itself"),
    ],
)
def test_offers_that_are_refused(how: dict[str, object], text: str) -> None:
    call = Pair()
    with pytest.raises(NotAcceptable, match=text) as error:
        call.offer(describe(**how))  # type: ignore[arg-type]
    assert error.value.status_hint == 488
    assert not call.negotiation.open
    assert call.offer(describe())


def test_weak_hashes_and_plain_profiles_are_refused() -> None:
    body = describe().replace(b"sha-256", b"sha-1")
    with pytest.raises(NotAcceptable, match="not sha-256, sha-384 or sha-512"):
        Pair().offer(body)
    for profile in (b"RTP/AVP ", b"RTP/SAVPF "):
        with pytest.raises(NotAcceptable, match=r"is UDP/TLS/RTP/SAVPF \(DTLS-SRTP\)"):
            Pair().offer(describe().replace(b"UDP/TLS/RTP/SAVPF ", profile))


def test_a_trunk_does_not_offer_dtls() -> None:
    with pytest.raises(NotAcceptable, match="UDP/TLS/RTP/SAVPF is not carried"):
        Pair(caller=OFF).offer(describe())
    call = Pair()
    call.offer(describe())
    with pytest.raises(WrongAnswer, match="UDP/TLS/RTP/SAVPF, which was not offered"):
        call.answer(describe(setup="active"))


# --- a client is called


def test_what_a_client_is_offered() -> None:
    call = Pair(OFF, DTLS)
    told = call.offer(sdp(TRUNK, EVENTS, "m=image 5002 udptl t38"))
    assert told.decode().splitlines()[5:-7] == [
        "a=group:BUNDLE 0",
        "a=ice-lite",
        "a=ice-options:ice2",
        "m=audio 20002 UDP/TLS/RTP/SAVPF 0 8 101",
        EVENTS,
        "a=sendrecv",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=mid:0",
        "a=msid:voice audio",
        "a=rtcp-mux",
    ]
    assert attributes(told, "setup") == ["actpass"]
    assert "a=rtcp-mux-only" in told.decode().splitlines()
    assert attributes(told, "candidate") == ["1 1 UDP 2130706431 2001:db8::7 20002 typ host"]
    back = call.answer(describe(setup="active", formats="0 126"))
    assert sections(back) == ["m=audio 20000 RTP/AVP 0 126", "m=image 0 udptl t38"]
    ice = call.ice(CALLEE)
    assert [ice.local_ufrag] == attributes(told, "ice-ufrag")
    assert (ice.remote_ufrag, ice.remote_pwd, ice.dtls_client) == (UFRAG, PWD, False)


@pytest.mark.parametrize(("setup", "client"), [("active", False), ("passive", True)])
def test_roles_of_an_answer(setup: str, client: bool) -> None:
    call = Pair(OFF, DTLS)
    call.exchange(sdp(TRUNK), describe(setup=setup))
    assert call.ice(CALLEE).dtls_client == client


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"setup": "actpass"}, "neither active nor passive"),
        ({"setup": "active", "without": ("a=rtcp-mux",)}, "the answer: a=rtcp-mux is missing"),
        ({"setup": "active", "without": ("a=fingerprint",)}, "a=fingerprint is missing"),
        ({"setup": "active", "without": ("a=ice-pwd",)}, "a=ice-ufrag or a=ice-pwd is missing"),
    ],
)
def test_answers_that_are_refused(how: dict[str, object], text: str) -> None:
    call = Pair(OFF, DTLS)
    call.offer(sdp(TRUNK))
    with pytest.raises(WrongAnswer, match=text):
        call.answer(describe(**how))  # type: ignore[arg-type]
    assert not call.media.updates[CALLEE]
    call.answer(describe(setup="active"))


def test_a_plain_answer_of_a_client() -> None:
    call = Pair(OFF, DTLS)
    call.offer(sdp(TRUNK))
    with pytest.raises(WrongAnswer, match="DTLS-SRTP"):
        call.answer(sdp(TRUNK))


def test_sdes_towards_dtls() -> None:
    call = Pair(REQUIRED, DTLS)
    told, back = call.exchange(
        sdp("m=audio 4000 RTP/SAVP 0", crypto(K1)), describe(setup="active", formats="0")
    )
    assert b"crypto" not in told
    assert sections(back) == ["m=audio 20000 RTP/SAVP 0"]
    assert len(attributes(back, "crypto")) == 1 and b"fingerprint" not in back
    assert call.media.last(CALLER).srtp is not None
    assert call.ice(CALLEE).remote_ufrag == UFRAG


def test_client_to_client() -> None:
    """Each has credentials of its own with us; nothing of theirs crosses but the codecs."""
    call = Pair(DTLS, DTLS)
    offer = describe(more=VIDEO, group="0 1")
    told, back = call.exchange(
        offer, describe("firefox", "active", NEW, OTHER_SHA256, formats="109 101")
    )
    assert sections(told) == ["m=audio 20002 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126"]
    assert [line.split()[1] for line in sections(back)] == ["20000", "0"]
    one, other = call.ice(CALLER), call.ice(CALLEE)
    assert one.local_ufrag != other.local_ufrag and one.local_pwd != other.local_pwd
    assert (one.remote_ufrag, other.remote_ufrag) == (UFRAG, NEW_UFRAG)
    for body in (told, back):
        text = body.decode()
        assert not any(word in text for word in (UFRAG, NEW_UFRAG, PWD, SHA256, OTHER_SHA256))
        assert "pRiVaTe" not in text and "extmap" not in text
        assert attributes(body, "msid") == ["voice audio"]


# --- later on


def connected(caller: Srtp = DTLS, callee: Srtp = OFF) -> Pair:
    call = Pair(caller, callee)
    bodies = {side: sdp(TRUNK, EVENTS) for side in Side}
    if caller.mode == "dtls":
        bodies[CALLER] = describe(formats="0 8 126")
    if callee.mode == "dtls":
        bodies[CALLEE] = describe(setup="active", formats="0 8 126")
    call.exchange(bodies[CALLER], bodies[CALLEE])
    return call


def test_hold_and_resume_keep_credentials_and_roles() -> None:
    call = connected()
    first = call.ice(CALLER)
    for direction, answer in (("sendonly", "recvonly"), ("inactive", "inactive")):
        told, back = call.exchange(describe(direction=direction), sdp(TRUNK, f"a={answer}"))
        assert f"a={direction}\r\n".encode() in told
        assert f"a={answer}\r\n".encode() in back
        assert call.ice(CALLER) == first
    assert not call.media.last(CALLER).may_receive
    call.exchange(describe(), sdp(TRUNK))
    assert call.ice(CALLER) == first and call.media.last(CALLER).may_receive


def test_the_trunk_holds_a_client() -> None:
    call = connected()
    first = call.ice(CALLER)
    told, back = call.exchange(
        sdp(TRUNK, "a=sendonly"), describe(setup="passive", direction="recvonly"), CALLEE
    )
    assert attributes(told, "setup") == ["actpass"]
    assert attributes(told, "ice-ufrag") == [first.local_ufrag]
    assert b"a=recvonly" in back
    assert call.ice(CALLER) == IceDtls(
        first.local_ufrag, first.local_pwd, UFRAG, PWD, first.fingerprints, True
    )
    told, back = call.exchange(describe(), sdp(TRUNK), CALLER)
    assert attributes(back, "setup") == ["active"]  # the roles that are held
    assert call.ice(CALLER).dtls_client


def test_an_ice_restart_brings_new_credentials_of_ours_and_keeps_the_association() -> None:
    call = connected()
    first, updates = call.ice(CALLER), len(call.media.updates[CALLEE])
    restart = describe(credentials=NEW, formats="0 8 126")
    _, back = call.exchange(restart, sdp(TRUNK, EVENTS))
    second = call.ice(CALLER)
    assert second.local_ufrag != first.local_ufrag and second.local_pwd != first.local_pwd
    assert (second.remote_ufrag, second.fingerprints) == (NEW_UFRAG, first.fingerprints)
    assert attributes(back, "ice-ufrag") == [second.local_ufrag]
    assert attributes(back, "setup") == ["passive"]
    assert len(call.media.updates[CALLEE]) == updates
    again = call.exchange(restart, sdp(TRUNK, EVENTS))[1]
    assert again == back and call.ice(CALLER) == second


def test_an_ice_restart_that_failed_leaves_what_was() -> None:
    call = connected()
    first = call.ice(CALLER)
    call.offer(describe(credentials=NEW))
    call.negotiation.close()  # the trunk refused it
    told, _ = call.exchange(sdp(TRUNK), describe(setup="active"), CALLEE)
    assert attributes(told, "ice-ufrag") == [first.local_ufrag]
    assert call.ice(CALLER) == first


def test_another_certificate_is_another_association() -> None:
    call = connected()
    call.exchange(sdp(TRUNK), describe(setup="passive"), CALLEE)
    assert call.ice(CALLER).dtls_client
    _, back = call.exchange(describe(fingerprint=OTHER_SHA256), sdp(TRUNK))
    assert attributes(back, "setup") == ["passive"]
    assert not call.ice(CALLER).dtls_client


def test_m_lines_keep_their_places_on_each_leg() -> None:
    """RFC 3264 section 8: the trunk never heard of the client's video, nor of its place."""
    call = Pair()
    call.exchange(describe(before=VIDEO, group="1 0"), sdp("m=video 0 RTP/AVP 96", TRUNK))
    told = call.offer(sdp(TRUNK), CALLEE)
    assert [line.split()[:2] for line in sections(told)] == [
        ["m=video", "0"],
        ["m=audio", "20000"],
    ]
    assert attributes(told, "mid") == ["1", "0"]
    assert attributes(told, "group") == ["BUNDLE 0"]
    back = call.answer(
        describe(setup="active", before=(VIDEO[0].replace(" 9 ", " 0 "), "a=mid:1")), CALLER
    )
    assert sections(back) == ["m=audio 20002 RTP/AVP 0 8"]


def test_a_client_that_adds_video_later() -> None:
    call = connected()
    told, back = call.exchange(
        describe(formats="0 8 126", more=VIDEO, group="0 1"), sdp(TRUNK, EVENTS)
    )
    assert len(sections(told)) == 1  # as many as the trunk has had
    assert [line.split()[1] for line in sections(back)] == ["20000", "0"]
    told, _ = call.exchange(sdp(TRUNK, EVENTS), describe(setup="active", formats="0 8 126"), CALLEE)
    assert [line.split()[1] for line in sections(told)] == ["20000", "0"]


def test_a_delayed_offer_to_a_client() -> None:
    """The trunk's INVITE had no offer: the client makes it, the trunk answers in its ACK."""
    call = Pair(OFF, DTLS)
    told, back = call.exchange(describe(), sdp(TRUNK, EVENTS), CALLEE)
    assert sections(told)[0].startswith("m=audio 20000 RTP/AVP 111")
    assert attributes(back, "setup") == ["passive"]
    assert call.ice(CALLEE).remote_ufrag == UFRAG


def test_another_phone_answers_the_same_offer() -> None:
    call = Pair(OFF, DTLS)
    told = call.offer(sdp(TRUNK))
    call.answer(describe(setup="active"))
    first = call.ice(CALLEE)
    call.answer(describe(setup="active", credentials=NEW, fingerprint=OTHER_SHA256))
    second = call.ice(CALLEE)
    assert second.local_ufrag == first.local_ufrag == attributes(told, "ice-ufrag")[0]
    assert (second.remote_ufrag, second.remote_pwd) == NEW
    assert second.fingerprints != first.fingerprints


@pytest.mark.parametrize("side", Side)
def test_what_a_client_was_told_may_be_said_again(side: Side) -> None:
    """A session refresh of ours: nothing changes, whoever described itself first."""
    call = connected(DTLS, DTLS)
    before = {each: list(call.media.updates[each]) for each in Side}
    setup = "active"
    call.negotiation.reaffirm(side, describe(setup=setup, formats="0 8 126"))
    assert call.media.updates == before


def test_a_transfer_from_a_client_to_a_trunk_and_to_another_client() -> None:
    """Who stays keeps its credentials; who comes has its own."""
    call = connected(OFF, DTLS)
    first = call.ice(CALLEE)
    proposal = call.negotiation.propose(CALLER, party(DTLS), 2000)
    assert sections(proposal.body) == ["m=audio 20000 UDP/TLS/RTP/SAVPF 0 8 126"]
    told = call.negotiation.take_over(
        CALLER, proposal, describe(setup="active", credentials=NEW, formats="0 126")
    )
    assert attributes(proposal.body, "ice-ufrag") == [call.ice(CALLER).local_ufrag]
    assert attributes(told, "ice-ufrag") == [first.local_ufrag]
    call.negotiation.reaffirm(CALLEE, describe(setup="active", formats="0 126"))
    assert call.ice(CALLEE) == first
    proposal = call.negotiation.propose(CALLER, party(OFF), 3000)
    assert sections(proposal.body) == ["m=audio 20000 RTP/AVP 0 126"]
    call.negotiation.take_over(CALLER, proposal, sdp("m=audio 4000 RTP/AVP 0"))
    assert call.media.last(CALLER).webrtc is None
    assert call.media.last(CALLER).remote == MediaAddress("192.0.2.1", 4000, 4001)
    assert call.ice(CALLEE) == first


# --- a client's network changes


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("calling", [True, False])
def test_an_ice_restart_is_answered_without_the_other_side(calling: bool, built: bool) -> None:
    """Whoever called, and whether the call is transcoded or not."""
    side, formats = (CALLER, "111 110" if built else "0 8 126") if calling else (CALLEE, "0 126")
    call = Pair(DTLS, OFF, built) if calling else Pair(OFF, DTLS, built)
    if calling:
        call.exchange(describe(formats=formats), sdp(TRUNK, EVENTS))
    else:
        call.exchange(sdp(TRUNK, EVENTS), describe(setup="active", formats=formats))
    first, updates = call.media.last(side), len(call.media.updates[side.other])
    # Chromium lists all that it can do again, and first what is used.
    restart = describe(credentials=NEW, formats=formats if built else "0 126 111 9 8")
    back = call.negotiation.restarted(side, restart)
    second = call.media.last(side)
    assert second._replace(webrtc=first.webrtc) == first
    assert (second.webrtc.remote_ufrag, second.webrtc.remote_pwd) == NEW
    assert second.webrtc.local_ufrag != first.webrtc.local_ufrag
    assert attributes(back, "ice-ufrag") == [second.webrtc.local_ufrag]
    assert attributes(back, "setup") == ["passive"]
    assert sections(back)[0].split()[3] == formats.split()[0]
    assert len(call.media.updates[side.other]) == updates
    assert call.negotiation.repeated(side, restart) == back
    assert call.negotiation.restarted(side, restart) == b""
    assert call.negotiation.current(side) == back
    assert not call.negotiation.open


def test_what_is_more_than_a_restart_is_the_other_sides_affair_too() -> None:
    call = connected()
    before = {side: list(call.media.updates[side]) for side in Side}
    for body in (
        describe(credentials=NEW, direction="sendonly"),
        describe(credentials=NEW, formats="9"),
        describe(formats="0 8 126"),
        describe(credentials=NEW, without=("a=rtcp-mux",)),
        b"v=0",
    ):
        assert call.negotiation.restarted(CALLER, body) == b""
    assert call.negotiation.restarted(CALLEE, sdp(TRUNK)) == b""
    assert call.media.updates == before
    call.offer(sdp(TRUNK), CALLEE)
    assert call.negotiation.restarted(CALLER, describe(credentials=NEW)) == b""
    call.answer(describe(setup="active"), CALLER)
    assert call.ice(CALLER).remote_ufrag == UFRAG


def test_a_new_certificate_begins_a_new_association() -> None:
    call = connected()
    first = call.ice(CALLER)
    body = describe(credentials=NEW, fingerprint=OTHER_SHA256)
    assert call.negotiation.restarted(CALLER, body)
    assert call.ice(CALLER).fingerprints != first.fingerprints
