"""a=crypto lines (RFC 4568): which are used, which are skipped, and what is said of them."""

from __future__ import annotations

from base64 import b64encode

import pytest

from relay.errors import NotAcceptable
from relay.sdp.crypto import Crypto, new_key, parse_crypto, usable
from relay.sdp.description import SUITES, SrtpKey

CM80, CM32 = "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"
# RFC 4568 section 9.1, and its key and salt.
KEY = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
OCTETS = b"YS___semctl () {\t220;}\n}\nunles"


def line(key: str = f"inline:{KEY}", suite: str = CM80, tag: str = "1", more: str = "") -> str:
    return f"{tag} {suite} {key} {more}".strip()


@pytest.mark.parametrize(
    ("value", "mkis"),
    [
        (f"1 {CM80} inline:{KEY}|2^20|1:4", [b"\0\0\0\1"]),  # section 4
        (f"1 {CM80} inline:{KEY}|1066:4", [b"\0\0\x04*"]),
        (f"1 {CM80} inline:{KEY}|2^31", [b""]),
        (f"1 {CM80} inline:{KEY}|4294967296", [b""]),
        (f"1 {CM80} inline:{KEY}", [b""]),
        (f"1 {CM80} INLINE:{KEY} KDR=0 WSH=1024 -x=1", [b""]),
        (f"1 {CM80} inline:{KEY} FEC_ORDER=SRTP_FEC", [b""]),
        (f"1\taes_cm_128_hmac_sha1_80   inline:{KEY}", [b""]),
    ],
)
def test_lines_that_are_used(value: str, mkis: list[bytes]) -> None:
    crypto = parse_crypto(value)
    assert (crypto.tag, crypto.suite) == (1, CM80)
    assert [(key.key, key.salt) for key in crypto.keys] == [(OCTETS[:16], OCTETS[16:])] * len(mkis)
    assert [key.mki for key in crypto.keys] == mkis


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "needs a tag, a suite and a key"),
        (f"1 {CM80}", "needs a tag, a suite and a key"),
        (line(tag="x"), "tag of a=crypto is not a number"),
        (line(tag="٣"), "tag of a=crypto is not a number"),
        (line(tag="1234567890"), "tag of a=crypto is not a number"),
        (line(suite="F8_128_HMAC_SHA1_80"), "F8_128_HMAC_SHA1_80 is not supported"),
        (line(suite="NULL"), "its suite is not supported"),
        (line(key=KEY), "not of the form inline:"),
        (line(key="inline:"), "not base64"),
        (line(key=f"inline:{KEY[:-3]}"), "not base64"),
        (line(key=f"inline:{KEY[:-1]}!"), "not base64"),
        (line(key=f"inline:={KEY}"), "not base64"),
        (line(key=f"inline:{KEY[:-4]}"), "are 30 octets, not 27"),
        (line(suite="AES_256_CM_HMAC_SHA1_80"), "are 46 octets, not 30"),
        (line(suite="AEAD_AES_128_GCM"), "are 28 octets, not 30"),
        (line(key=f"inline:{KEY}|2^20|1:4|x"), "more than a lifetime and an MKI"),
        (line(key=f"inline:{KEY}|2^20|x"), "MKI is not of the form"),
        (line(key=f"inline:{KEY}|2^20|1:0"), "MKI is not of the form"),
        (line(key=f"inline:{KEY}|2^20|1:129"), "MKI is not of the form"),
        (line(key=f"inline:{KEY}|2^20|256:1"), "MKI is not of the form"),
        (line(key=f"inline:{KEY};inline:{KEY}"), "an MKI each"),
        (line(key=f"inline:{KEY}|1:1;inline:{KEY}|1:1"), "an MKI each"),
        (line(key=f"inline:{KEY}|1:1;inline:{KEY}|2:2"), "an MKI each"),
        (line(more="UNENCRYPTED_SRTP"), "without encryption or authentication"),
        (line(more="UNENCRYPTED_SRTCP"), "without encryption or authentication"),
        (line(more="unauthenticated_srtp"), "without encryption or authentication"),
        (line(more="KDR=1"), "key derivation rate"),
        (line(more="FEC_KEY=inline:x"), "session parameter that is not supported"),
        (line(more="NEW=1"), "session parameter that is not supported"),
    ],
)
def test_lines_that_are_not(value: str, text: str) -> None:
    with pytest.raises(NotAcceptable, match=text) as error:
        parse_crypto(value)
    assert KEY[:8] not in str(error.value)


def test_several_keys_are_told_apart() -> None:
    """Each by its own MKI, and few: a packet's key is looked for among them all."""
    masters = [bytes([n]) * 30 for n in range(9)]
    texts = [f"inline:{b64encode(key).decode()}|2^20|{n}:2" for n, key in enumerate(masters)]
    found = parse_crypto(line(key=";".join(texts[:8]))).keys
    assert [key.key + key.salt for key in found] == masters[:8]
    assert [key.mki for key in found] == [bytes([0, n]) for n in range(8)]
    with pytest.raises(NotAcceptable, match="more than 8 keys"):
        parse_crypto(line(key=";".join(texts)))
    twice = texts[0].replace("|0:2", "|7:2")
    with pytest.raises(NotAcceptable, match="must differ"):
        parse_crypto(line(key=f"{texts[0]};{twice}"))


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_what_is_written_is_read_with_its_padding_and_without(suite: object) -> None:
    """Key and salt of GCM do not fill whole groups of base64: peers differ about the rest."""
    key = new_key(suite.name)
    assert (len(key.key), len(key.salt)) == (suite.key_octets, suite.salt_octets)
    ours = Crypto(7, suite.name, (key,))
    written = ours.line().removeprefix("a=crypto:")
    assert len(written.rpartition("inline:")[2]) % 4 == 0
    assert parse_crypto(written) == ours
    assert parse_crypto(written.rstrip("=")) == ours


def test_new_keys_differ() -> None:
    assert new_key(CM80) != new_key(CM80)


def test_what_is_not_understood_is_skipped_and_our_order_counts() -> None:
    values = [
        line(tag="1", suite="F8_128_HMAC_SHA1_80"),
        line(tag="2", suite=CM32),
        line(tag="2", suite=CM80),
        line(tag="3", suite=CM80, more="UNENCRYPTED_SRTP"),
        line(tag="4", suite=CM80),
        "nonsense",
    ]
    assert [crypto.tag for crypto in usable(values, (CM80, CM32))] == [4, 2]
    assert [crypto.tag for crypto in usable(values, (CM32,))] == [2]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "no a=crypto line"),
        ([line(suite=CM32)], f"{CM32} is not allowed on this trunk"),
        ([line(more="KDR=3")], "key derivation rate"),
    ],
)
def test_none_that_can_be_used(values: list[str], text: str) -> None:
    with pytest.raises(NotAcceptable, match=text):
        usable(values, (CM80,))


def test_a_flood_of_lines_is_cut() -> None:
    values = [line(suite="X_Y")] * 100 + [line()]
    with pytest.raises(NotAcceptable):
        usable(values, (CM80,))


def test_nothing_of_a_key_is_shown() -> None:
    key = SrtpKey(CM80, b"k" * 16, b"s" * 14)
    shown = repr(Crypto(1, CM80, (key,))) + str(key)
    assert "kkk" not in shown
    assert b64encode(b"k" * 15).decode() not in shown
