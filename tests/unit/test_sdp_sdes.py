"""The keys of one leg over its offers and answers (RFC 4568 section 7)."""

from __future__ import annotations

from itertools import count

import pytest

from relay.errors import NotAcceptable, WrongAnswer
from relay.sdp.crypto import Crypto, Srtp, parse_crypto
from relay.sdp.description import SUITES, MediaAddress, SrtpKey, SrtpKeys
from relay.sdp.keying import Terms
from relay.sdp.sdes import Sdes
from relay.sdp.session import MediaSection, Session, Stream

CM80, CM32, GCM = "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM"
SUITE_ORDER = (CM80, CM32, GCM)
LOCAL = MediaAddress("198.51.100.7", 20000, 20001)


def keying(mode: str) -> Sdes:
    """Its keys are 1, 2, 3 … so that the test sees which one is which."""
    numbers = count(1)
    return Sdes(Srtp(mode, SUITE_ORDER), lambda octets: bytes([next(numbers)]) * octets)


def crypto(tag: int = 1, suite: str = CM80, octet: int = 0xA0) -> Crypto:
    sizes = SUITES[suite]
    key = SrtpKey(suite, bytes([octet]) * sizes.key_octets, bytes([octet]) * sizes.salt_octets)
    return Crypto(tag, suite, (key,))


def audio(*lines: Crypto, profile: str = "RTP/SAVP") -> Stream:
    section = MediaSection("audio", 4000, profile, ("0",), [line.line() for line in lines])
    return Stream(Session(["v=0"], [section]), 0)


def said(terms: Terms) -> tuple[bool, tuple[Crypto, ...]]:
    """Whether a description of ours is RTP/SAVP, and its lines."""
    lines = tuple(parse_crypto(line.removeprefix("a=crypto:")) for line in terms.lines)
    return terms.profile == "RTP/SAVP", lines


def offer(leg: Sdes) -> tuple[bool, tuple[Crypto, ...]]:
    return said(leg.offer(LOCAL))


def answer(leg: Sdes) -> tuple[Crypto, ...]:
    return said(leg.answer(LOCAL))[1]


def offered(leg: Sdes, section: Stream) -> SrtpKeys | None:
    """The peer offers; what holds after our answer."""
    leg.choose(section)
    leg.accept()
    return leg.agree()


def answered(leg: Sdes, *lines: Crypto, profile: str = "RTP/SAVP") -> SrtpKeys | None:
    leg.take_answer(audio(*lines, profile=profile))
    return leg.agree()


# --- the peer offers


def test_the_answer_has_the_tag_of_the_line_that_was_chosen_and_a_key_of_ours() -> None:
    leg = keying("required")
    keys = offered(leg, audio(crypto(3, CM32, 0xA3), crypto(7, CM80, 0xA7)))
    assert keys == SrtpKeys(crypto(7, CM80, 0xA7).keys, SrtpKey(CM80, b"\1" * 16, b"\2" * 14))
    (line,) = answer(leg)
    assert (line.tag, line.suite, line.keys) == (7, CM80, (keys.send,))


@pytest.mark.parametrize(
    ("mode", "section", "text"),
    [
        ("required", audio(profile="RTP/AVP"), "this trunk requires SRTP"),
        ("required", audio(), "there is no a=crypto line"),
        ("optional", audio(), "there is no a=crypto line"),
        ("off", audio(crypto()), "RTP/SAVP is not carried: srtp is off on this trunk"),
        ("required", audio(crypto(suite="AEAD_AES_256_GCM")), "not allowed on this trunk"),
    ],
)
def test_offers_that_are_refused(mode: str, section: Stream, text: str) -> None:
    with pytest.raises(NotAcceptable, match=text) as error:
        keying(mode).choose(section)
    assert error.value.status_hint == 488


@pytest.mark.parametrize(
    ("mode", "section", "secured"),
    [
        ("off", audio(profile="RTP/AVP"), False),
        ("off", audio(crypto(), profile="RTP/AVP"), False),
        ("optional", audio(profile="RTP/AVP"), False),
        ("optional", audio(crypto(), profile="RTP/AVP"), True),
        ("optional", audio(crypto(suite="AEAD_AES_256_GCM"), profile="RTP/AVP"), False),
        ("optional", audio(crypto()), True),
        ("optional", audio(crypto(), profile="RTP/SAVPF"), True),
        ("required", audio(crypto(), profile="RTP/AVP"), True),
    ],
)
def test_offers_that_are_taken(mode: str, section: Stream, secured: bool) -> None:
    assert (offered(keying(mode), section) is not None) == secured


def test_the_same_key_again_changes_nothing() -> None:
    """Hold, resume and session refresh: the counters of both directions go on."""
    leg = keying("required")
    first = offered(leg, audio(crypto(), crypto(2, CM32)))
    assert offered(leg, audio(crypto(), crypto(2, CM32))) == first
    assert offered(leg, audio(crypto(2, CM32, 0xB0), crypto(5))) == first  # another tag
    assert answer(leg)[0].tag == 5


def test_what_was_agreed_is_kept_though_another_suite_would_come_first() -> None:
    leg = keying("required")
    first = offered(leg, audio(crypto(1, CM32)))
    assert offered(leg, audio(crypto(2, CM80, 0xB0), crypto(1, CM32))) == first


def test_a_new_key_of_the_peer_brings_one_of_ours() -> None:
    leg = keying("required")
    first = offered(leg, audio(crypto()))
    second = offered(leg, audio(crypto(octet=0xB0)))
    assert first and second
    assert second.receive == crypto(octet=0xB0).keys
    assert second.send != first.send


def test_an_offer_that_fails_leaves_the_keys_as_they_were() -> None:
    leg = keying("required")
    first = offered(leg, audio(crypto()))
    leg.choose(audio(crypto(octet=0xB0)))
    leg.accept()  # never agreed
    assert offered(leg, audio(crypto())) == first


# --- we offer


def test_every_suite_is_offered_with_a_key_of_its_own() -> None:
    keyed, lines = offer(keying("required"))
    assert keyed
    assert [(line.tag, line.suite) for line in lines] == [(1, CM80), (2, CM32), (3, GCM)]
    assert len({line.keys[0].key for line in lines}) == 3


def test_best_effort_is_offered_in_the_plain_profile() -> None:
    keyed, lines = offer(keying("optional"))
    assert (keyed, len(lines)) == (False, 3)
    assert offer(keying("off")) == (False, ())


def test_the_answer_chooses_one_of_our_keys() -> None:
    leg = keying("required")
    _, lines = offer(leg)
    keys = answered(leg, crypto(2, CM32))
    assert keys == SrtpKeys(crypto(2, CM32).keys, lines[1].keys[0])
    assert offer(leg) == (True, (lines[1],))  # a later offer says it again
    assert answered(leg, crypto(2, CM32)) == keys


def test_another_branch_answers_with_another_key() -> None:
    leg = keying("required")
    _, lines = offer(leg)
    answered(leg, crypto(2, CM32))
    assert answered(leg, crypto(1, CM80, 0xB0)) == SrtpKeys(
        crypto(1, CM80, 0xB0).keys, lines[0].keys[0]
    )


@pytest.mark.parametrize(
    ("lines", "profile", "text"),
    [
        ((), "RTP/SAVP", "RTP/SAVP, which has no a=crypto"),
        ((), "RTP/AVP", "no a=crypto: this trunk requires SRTP"),
        ((crypto(9),), "RTP/SAVP", "tag 9 was not offered"),
        ((crypto(1, CM32),), "RTP/SAVP", f"tag 1 was {CM80}, not {CM32}"),
        ((crypto(1), crypto(2, CM32)), "RTP/SAVP", "more than one"),
        ((crypto(4, "AEAD_AES_256_GCM"),), "RTP/SAVP", "not allowed"),
    ],
)
def test_answers_that_are_refused(lines: tuple[Crypto, ...], profile: str, text: str) -> None:
    """The tag and the suite of an answer are checked: keys are not taken from anywhere."""
    leg = keying("required")
    offer(leg)
    held = answered(leg, crypto())
    with pytest.raises(WrongAnswer, match=text) as error:
        leg.take_answer(audio(*lines, profile=profile))
    assert error.value.status_hint == 502
    assert leg.agree() == held


def test_our_own_key_sent_back_is_refused() -> None:
    leg = keying("required")
    _, lines = offer(leg)
    with pytest.raises(WrongAnswer, match="repeats our own key"):
        leg.take_answer(audio(lines[0]))


def test_best_effort_may_be_answered_plain_and_is_then_offered_plain() -> None:
    leg = keying("optional")
    offer(leg)
    assert answered(leg, profile="RTP/AVP") is None
    assert offer(leg) == (False, ())


def test_best_effort_that_is_taken_stays() -> None:
    leg = keying("optional")
    _, lines = offer(leg)
    assert answered(leg, crypto(), profile="RTP/AVP") is not None
    assert offer(leg) == (False, (lines[0],))


def test_a_wrong_line_in_a_best_effort_answer_is_not_taken_for_plain() -> None:
    leg = keying("optional")
    offer(leg)
    with pytest.raises(WrongAnswer):
        answered(leg, crypto(8), profile="RTP/AVP")


def test_srtp_in_an_answer_to_a_plain_offer() -> None:
    leg = keying("off")
    offer(leg)
    with pytest.raises(WrongAnswer, match="RTP/SAVP, which was not offered"):
        answered(leg, crypto())
    assert answered(leg, crypto(), profile="RTP/AVP") is None


def test_the_profile_of_the_peer_is_used_when_it_is_offered_to() -> None:
    leg = keying("optional")
    offered(leg, audio(crypto()))
    keyed, lines = offer(leg)
    assert keyed
    assert lines == answer(leg)
