"""Which codecs cross a call with a voice client, and when the engine has to transcode."""

from __future__ import annotations

import pytest

from relay.call.ports import Side
from relay.errors import NoCommonCodec, WrongAnswer
from relay.sdp.crypto import OFF
from relay.sdp.description import Coding
from tests.unit.browsers import BROWSERS, attributes, describe, sections
from tests.unit.test_negotiation import sdp
from tests.unit.test_sdp_dtls import DTLS, Pair, party

CALLER, CALLEE = Side.CALLER, Side.CALLEE
EVENTS = "a=rtpmap:101 telephone-event/8000"
PCMU = ("m=audio 5000 RTP/AVP 0 101", EVENTS)
BOTH = ("m=audio 5000 RTP/AVP 8 0 101", EVENTS)
OPUS = ("m=audio 5000 RTP/AVP 96", "a=rtpmap:96 opus/48000/2", "a=fmtp:96 useinbandfec=1")
ONLY_OPUS = "111 110"  # of a browser


def formats(body: bytes) -> str:
    return sections(body)[0].partition("SAVPF ")[2] or sections(body)[0].partition("AVP ")[2]


def built(caller: object = DTLS, callee: object = OFF) -> Pair:
    return Pair(caller, callee, built=True)  # type: ignore[arg-type]


# --- passed through


@pytest.mark.parametrize("browser", BROWSERS)
@pytest.mark.parametrize("answer", [PCMU, BOTH])
def test_a_common_codec_is_passed_through(browser: str, answer: tuple[str, ...]) -> None:
    call = built()
    told, back = call.exchange(describe(browser), sdp(*answer))
    assert formats(told) == BROWSERS[browser].formats  # there is nothing to add
    events = "" if browser == "aiortc" else " 101"  # which it does not have
    assert formats(back) == answer[0].partition("AVP ")[2].removesuffix(" 101") + events
    assert [call.media.last(side).coding for side in Side] == [None, None]
    assert call.negotiation.codec() == ("PCMU" if answer is PCMU else "PCMA")


def test_a_client_is_offered_opus_beside_g711_and_the_trunk_never_hears_of_it() -> None:
    call = built(OFF, DTLS)
    told = call.offer(sdp(*PCMU))
    assert formats(told) == "0 101 111 110"
    assert "111 opus/48000/2" in attributes(told, "rtpmap")
    assert "111 minptime=10;useinbandfec=1" in attributes(told, "fmtp")
    assert "110 telephone-event/48000" in attributes(told, "rtpmap")
    back = call.answer(describe(setup="active", formats="0 101 111 110").replace(b"126", b"101"))
    assert formats(back) == "0 101"
    assert not [line for line in attributes(back, "rtpmap") if line.startswith(("111", "110"))]
    assert not [line for line in attributes(back, "fmtp") if line.startswith("111")]
    for side in Side:
        leg = call.media.last(side)
        assert (leg.coding, leg.payload_types, leg.clock_hz) == (None, {0, 101}, 8000)
        assert leg.telephone_event == 101


def test_opus_on_both_sides() -> None:
    call = built()
    told, back = call.exchange(describe(formats=ONLY_OPUS), sdp(*OPUS))
    assert formats(told) == "111 110 0 8 101"
    assert formats(back) == "96"
    assert call.media.last(CALLER).coding is None
    assert call.negotiation.codec() == "OPUS"


def test_between_trunks_codecs_are_their_own_affair() -> None:
    call = built(OFF, OFF)
    told, back = call.exchange(sdp(*OPUS), sdp(*PCMU))
    assert (formats(told), formats(back)) == ("96", "0 101")
    assert call.media.last(CALLER).coding is None


def test_a_codec_that_nobody_transcodes_is_offered_alone() -> None:
    call = built(OFF, DTLS)
    assert formats(call.offer(sdp("m=audio 5000 RTP/AVP 18"))) == "18"
    with pytest.raises(NoCommonCodec, match=r"Opus and G\.711 are all that is transcoded"):
        call.answer(describe(setup="active", formats=ONLY_OPUS))


# --- transcoded


def test_a_client_with_opus_alone_calls_a_trunk() -> None:
    call = built()
    told, back = call.exchange(describe(formats=ONLY_OPUS), sdp(*PCMU, "a=ptime:40"))
    assert formats(told) == "111 110 0 8 101"
    assert formats(back) == "111 110"
    assert attributes(back, "rtpmap") == ["111 opus/48000/2", "110 telephone-event/48000"]
    assert attributes(back, "fmtp") == ["111 minptime=10;useinbandfec=1", "110 0-15"]
    assert attributes(back, "ptime") == ["20"]
    caller, callee = call.media.last(CALLER), call.media.last(CALLEE)
    assert caller.coding == Coding("OPUS", 111, 48000, 110, None, 20, True)
    assert callee.coding == Coding("PCMU", 0, 8000, 101, None, 40)
    assert (caller.payload_types, caller.telephone_event) == ({111, 110}, 110)
    assert (callee.payload_types, callee.telephone_event) == ({0, 101}, 101)
    assert (caller.clock_hz, callee.clock_hz) == (48000, 8000)
    assert caller.payload_map == callee.payload_map == ()
    assert call.negotiation.codec() == "PCMU"


def test_a_trunk_calls_a_client_with_opus_alone() -> None:
    call = built(OFF, DTLS)
    told, back = call.exchange(
        sdp(*BOTH, "a=rtpmap:13 CN/8000"), describe(setup="active", formats=ONLY_OPUS)
    )
    assert formats(told) == "8 0 101 111 110"
    assert formats(back) == "8 101"
    assert call.media.last(CALLER).coding == Coding("PCMA", 8, 8000, 101)
    assert call.media.last(CALLEE).coding == Coding("OPUS", 111, 48000, 110, fec=True)
    assert call.negotiation.codec() == "PCMA"


def test_comfort_noise_is_of_the_leg_that_has_it() -> None:
    call = built(OFF, DTLS)
    _, back = call.exchange(
        sdp("m=audio 5000 RTP/AVP 0 13"), describe(setup="active", formats=ONLY_OPUS)
    )
    assert formats(back) == "0 13"
    caller = call.media.last(CALLER)
    assert caller.coding == Coding("PCMU", 0, 8000, None, 13)
    assert caller.payload_types == {0, 13}


def test_events_are_left_out_where_one_side_has_none() -> None:
    call = built()
    _, back = call.exchange(describe(formats=ONLY_OPUS), sdp("m=audio 5000 RTP/AVP 0"))
    assert formats(back) == "111"
    assert call.media.last(CALLER).telephone_event is None
    told = built().offer(describe(formats="111"))
    assert formats(told) == "111 0 8"  # nor are they offered


def test_an_answer_that_prefers_ours_is_transcoded() -> None:
    """It would send Opus, which the trunk does not know, though it knows PCMU as well."""
    call = built(OFF, DTLS)
    _, back = call.exchange(sdp(*PCMU), describe("firefox", setup="active", formats="109 0 101"))
    assert formats(back) == "0"  # its events are of the other clock
    assert call.media.last(CALLEE).coding == Coding("OPUS", 109, 48000, fec=True)


def test_a_codec_that_is_nobodys_is_passed_over() -> None:
    call = built()
    answer = sdp("m=audio 5000 RTP/AVP 97 0", "a=rtpmap:97 G722/16000")  # it is 8000, by name
    _, back = call.exchange(describe(), answer)
    assert formats(back) == "0"
    assert call.media.last(CALLER).coding is None


def test_two_clients_without_a_common_codec() -> None:
    call = built(DTLS, DTLS)
    told, back = call.exchange(
        describe(formats="0 126"), describe("firefox", setup="active", formats="109")
    )
    assert formats(told) == "0 126 111 110"
    assert formats(back) == "0"
    assert call.media.last(CALLEE).coding == Coding("OPUS", 109, 48000, fec=True)


def test_sdes_towards_a_transcoded_client_and_hold() -> None:
    """Hold, resume and a refresh of either side find the same two codings."""
    call = built(OFF, DTLS)
    answer = {"setup": "active", "formats": ONLY_OPUS}
    call.exchange(sdp(*PCMU), describe(**answer))  # type: ignore[arg-type]
    codings = {side: call.media.last(side).coding for side in Side}
    told, back = call.exchange(
        sdp(*PCMU, "a=sendonly"),
        describe(direction="recvonly", **answer),  # type: ignore[arg-type]
    )
    assert formats(told) == "111 110 0 101" and b"a=recvonly" in back
    assert not call.media.last(CALLEE).may_send
    call.exchange(sdp(*PCMU), describe(**answer))  # type: ignore[arg-type]
    call.negotiation.reaffirm(CALLER, sdp(*PCMU))
    call.negotiation.reaffirm(CALLEE, describe(**answer))  # type: ignore[arg-type]
    told, _ = call.exchange(describe(formats=ONLY_OPUS), sdp(*PCMU), CALLEE)
    assert formats(told) == "0 8 101 111 110"
    assert {side: call.media.last(side).coding for side in Side} == codings


def test_the_numbers_of_a_leg_do_not_change_their_meaning() -> None:
    call = built()
    call.exchange(describe("firefox", formats="109 101"), sdp(*PCMU))
    told = call.offer(sdp(*PCMU), CALLEE)
    assert formats(told) == "109 110 0 101"
    assert "109 opus/48000/2" in attributes(told, "rtpmap")
    taken = sdp("m=audio 5000 RTP/AVP 0 111 110", "a=rtpmap:111 AMR/8000", "a=rtpmap:110 X/8000")
    call = built(OFF, DTLS)
    assert formats(call.offer(taken)) == "0 111 110 96"


def test_a_delayed_offer_is_transcoded_too() -> None:
    call = built(OFF, DTLS)
    told, back = call.exchange(describe(formats=ONLY_OPUS), sdp(*PCMU), CALLEE)
    assert formats(told) == "111 110 0 8 101"
    assert formats(back) == "111 110"
    assert call.media.last(CALLER).coding == Coding("PCMU", 0, 8000, 101)


def test_a_transfer_begins_and_ends_transcoding() -> None:
    call = built()
    call.exchange(describe(formats=ONLY_OPUS), sdp(*PCMU))
    end = call.negotiation.propose(CALLEE, party(OFF), 2000)
    assert formats(end.body) == "111 110 0 8 101"
    told = call.negotiation.take_over(CALLEE, end, sdp(*OPUS))
    assert call.media.last(CALLER).coding is None
    assert formats(told) == "96 0 8"
    call.negotiation.reaffirm(CALLER, describe(setup="active", formats="96").replace(b"111", b"96"))
    assert call.media.last(CALLEE).coding is None
    end = call.negotiation.propose(CALLEE, party(OFF), 3000)
    call.negotiation.take_over(CALLEE, end, sdp(*PCMU))
    assert call.media.last(CALLEE).coding == Coding("PCMU", 0, 8000)


# --- neither


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"built": False}, "no common codec, and transcoding is not built"),
        ({"built": True, "wanted": False}, "no common codec, and transcoding is off"),
    ],
)
@pytest.mark.parametrize("caller", [DTLS, OFF])
def test_no_common_codec(how: dict[str, bool], text: str, caller: object) -> None:
    call = Pair(caller, OFF if caller is DTLS else DTLS, **how)  # type: ignore[arg-type]
    bodies = (
        describe(formats=ONLY_OPUS, setup="actpass" if caller is DTLS else "active"),
        sdp(*PCMU),
    )
    offer, answer = bodies if caller is DTLS else bodies[::-1]
    told = call.offer(offer)
    assert formats(told) == (ONLY_OPUS if caller is DTLS else "0 101")  # nothing is added
    assert text in call.negotiation.lacks()
    with pytest.raises(NoCommonCodec, match=text) as error:
        call.answer(answer)
    assert error.value.status_hint == 488
    assert not any(call.media.updates.values())
    with pytest.raises(WrongAnswer, match="refuses the audio"):
        call.answer(sdp("m=audio 0 RTP/AVP 0"))


def test_what_is_lacking_is_said_only_where_it_may_be_the_reason() -> None:
    for call, offer in (
        (Pair(), describe()),
        (built(), describe(formats=ONLY_OPUS)),
        (Pair(OFF, OFF), sdp(*PCMU)),
    ):
        assert call.negotiation.lacks() == ""
        call.offer(offer)
        assert call.negotiation.lacks() == ""
