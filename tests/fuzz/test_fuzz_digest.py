"""Whatever a peer writes into a challenge or into credentials: malformed, or read and written
the same; and nothing but the password opens the door.

Bounded by RELAY_FUZZ_SECONDS (default 5 s for the whole file).
"""

from __future__ import annotations

import ipaddress
import os
import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.call.authentication import Authentication
from relay.config import Trunk
from relay.errors import Challenged, MalformedMessage, Refused
from relay.residency.boundary import Boundary
from relay.sip.digest import Challenge, Credentials, best, ha1
from relay.sip.fields import Headers
from relay.sip.message import Request
from relay.sip.nonce import Nonces
from relay.sip.parser import parse
from relay.sip.transaction import Hop

SECONDS = float(os.environ.get("RELAY_FUZZ_SECONDS", "5"))
SETTINGS = settings(max_examples=int(60 * SECONDS), deadline=None)
URI = "sip:+35315550199@192.0.2.1"
SOURCE = Hop("udp", "192.0.2.2", 5060)

NAMES = ("realm", "nonce", "username", "uri", "response", "qop", "nc", "cnonce", "algorithm")
PIECES = (
    *(f"{name}=" for name in NAMES), *NAMES, "Digest ", "digest", "Basic ", "auth", "auth-int",
    "MD5", "SHA-256", "MD5-sess", "00000001", '"', "\\", ",", ", ", "=", " ", "\t", "\\\"", '""',
    "a", "\xe4", "\udcff", "\x00", "stale=true", "opaque=x", "Digest realm=\"r\", nonce=\"n\"",
)  # fmt: skip
PRINTED = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_characters="\x7f"))


@SETTINGS
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=60))
def test_any_text_is_malformed_or_a_challenge_that_is_written_as_it_is_read(text: str) -> None:
    try:
        found = Challenge.parse(text)
    except MalformedMessage:
        return
    for challenge in best(found):
        assert Challenge.parse(str(challenge)) == [challenge]
        answer = challenge.answer("u", "k", "INVITE", URI, 1, "c")
        assert Credentials.parse(str(answer)) == answer


@SETTINGS
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=60))
def test_any_text_is_malformed_or_credentials(text: str) -> None:
    try:
        found = Credentials.parse(text)
    except MalformedMessage:
        return
    if found is not None and found.algorithm in ("MD5", "SHA-256"):
        assert not found.proves("not the key", "INVITE")


@SETTINGS
@given(PRINTED, PRINTED, PRINTED, st.sampled_from(("MD5", "SHA-256", "SHA-512-256")))
def test_names_of_any_letters_cross_the_wire(
    username: str, realm: str, nonce: str, algorithm: str
) -> None:
    """Quotes, backslashes, commas and umlauts in a user name, a realm or a nonce."""
    challenge = Challenge(realm, nonce, algorithm, ("auth",), "o")
    key = ha1(algorithm, username, realm, "password")
    answer = challenge.answer(username, key, "INVITE", URI, 7, "c")
    fields = [("Proxy-Authorization", str(answer)), ("Content-Length", "0")]
    message = parse(Request("INVITE", URI, Headers(fields)).encode())
    assert isinstance(message, Request)
    again = Credentials.parse(message.headers.get("Proxy-Authorization") or "")
    assert again == answer
    assert again is not None and again.proves(key, "INVITE")


def _mutate(text: str, chance: random.Random) -> str:
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(text) + 1)
        if chance.random() < 0.5:
            text = text[:at] + chance.choice(PIECES) + text[at:]
        else:
            text = text[:at] + text[at + chance.randrange(1, 20) :]
    return text


def _request(value: str) -> Request:
    fields = [
        ("To", f"<{URI}>"),
        ("CSeq", "1 INVITE"),
        ("Proxy-Authorization", value),
    ]
    return Request("INVITE", URI, Headers(fields))


def test_no_change_to_credentials_of_a_wrong_password_opens_the_door() -> None:
    trunk = Trunk(name="a", credentials=({"username": "u", "password": "p"},))  # type: ignore[arg-type]
    inside = Boundary((ipaddress.ip_network("192.0.2.0/24"),))
    check = Authentication((trunk,), "r", inside, b"secret")
    nonce = Nonces(b"secret").make(SOURCE.host, 1000.0)
    challenge = Challenge("r", nonce, "SHA-256", ("auth",))
    wrong = str(challenge.answer("u", ha1("SHA-256", "u", "r", "q"), "INVITE", URI, 1, "c"))
    right = str(challenge.answer("u", ha1("SHA-256", "u", "r", "p"), "INVITE", URI, 1, "c"))
    chance = random.Random(8760)
    deadline = time.monotonic() + SECONDS / 2
    tried = 0
    while time.monotonic() < deadline or tried < 100:
        tried += 1
        try:
            check.identify(_request(_mutate(wrong, chance)), SOURCE, None, 1000.0)
        except (Challenged, Refused):
            continue
        raise AssertionError("let in without the password")
    assert check.identify(_request(right), SOURCE, None, 1000.0) is trunk  # the door does open
