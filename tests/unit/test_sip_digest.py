"""Digest authentication: vectors of RFC 7616 section 3.9.1 and RFC 2617 section 3.5, grammar."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable

import pytest

from relay.errors import MalformedMessage
from relay.sip.digest import Challenge, Credentials, best, ha1, of_realm, response
from relay.sip.nonce import LIFETIME_S, Nonces

REALM = "http-auth@example.org"
NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
OPAQUE = "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616(algorithm: str, expected: str) -> None:
    value = (
        f'Digest realm="{REALM}", qop="auth, auth-int", algorithm={algorithm}, '
        f'nonce="{NONCE}", opaque="{OPAQUE}"'
    )
    (challenge,) = Challenge.parse(value)
    key = ha1(algorithm, "Mufasa", REALM, "Circle of Life")
    given = challenge.answer("Mufasa", key, "GET", "/dir/index.html", 1, CNONCE)
    assert given.response == expected
    assert given.opaque == OPAQUE
    assert Credentials.parse(str(given)) == given
    assert given.proves(key, "GET")
    assert not given.proves(key, "POST")
    assert not given.proves(ha1(algorithm, "Mufasa", REALM, "circle of life"), "GET")


def test_the_example_of_rfc_2617() -> None:
    given = Credentials.parse(
        'Digest username="Mufasa", realm="testrealm@host.com", '
        'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="/dir/index.html", qop=auth, '
        'nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1", '
        'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    assert given is not None and given.algorithm == "MD5"
    assert given.proves(ha1("MD5", "Mufasa", "testrealm@host.com", "Circle Of Life"), "GET")


def test_a_challenge_without_qop_is_answered_as_rfc_2069_has_it() -> None:
    """With the erratum's digest: RFC 2069 section 2.4 printed a wrong one."""
    (challenge,) = Challenge.parse(
        'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
    )
    key = ha1("MD5", "Mufasa", "testrealm@host.com", "CircleOfLife")
    given = challenge.answer("Mufasa", key, "GET", "/dir/index.html", 1, "unused")
    assert given.response == "1949323746fe6a43ef61f9606e7febea"
    assert "qop" not in str(given) and "cnonce" not in str(given) and "nc=" not in str(given)


def test_sha_512_256_is_as_the_erratum_of_rfc_7616_has_it() -> None:
    """RFC 7616 section 3.9.2; its user name is J-U+00E4 s-o-n D-o-e in UTF-8."""
    key = ha1("SHA-512-256", "J\xe4s\xf8n Doe", "api@example.org", "Secret, or not?")
    got = response(
        "SHA-512-256",
        key,
        "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
        "GET",
        "/doe.json",
        "auth",
        "00000001",
        "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
    )
    # As erratum 4897 has it; the RFC printed what another hash gives.
    assert got == "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"


def test_several_challenges_in_one_field_are_told_apart() -> None:
    found = Challenge.parse(
        'Digest realm="a, b", nonce="1", algorithm=SHA-256, qop="auth", Basic realm="c", '
        'digest REALM="d\\"d", Nonce="2", stale=TRUE'
    )
    assert [(c.realm, c.nonce, c.algorithm, c.stale) for c in found] == [
        ("a, b", "1", "SHA-256", False),
        ('d"d', "2", "MD5", True),
    ]
    assert [Challenge.parse(str(c))[0] for c in found] == found


def test_the_topmost_known_algorithm_of_each_realm_is_taken() -> None:
    """RFC 8760 section 2.4."""
    offered = [
        Challenge("a", "1", "SHA-1024"),
        Challenge("a", "2", "MD5-sess"),
        Challenge("a", "3", "SHA-256", ("auth-int",)),
        Challenge("a", "4", "MD5", ("auth",)),
        Challenge("a", "5", "SHA-256", ("auth",)),
        Challenge("b", "6", "SHA-256"),
    ]
    assert [c.nonce for c in best(offered)] == ["4", "6"]


@pytest.mark.parametrize(
    "value",
    [
        "Digest",
        "Digest realm",
        'Digest realm="a',
        'Digest realm="a" nonce="b"',
        'Digest realm="a", realm="b", nonce="c"',
        'Digest nonce="a"',
        'Digest realm="a", nonce=',
        "Digest " + ", ".join(f"x{number}=1" for number in range(40)),
        ", ".join(['Digest realm="a", nonce="b"'] * 9),
    ],
)
def test_a_challenge_that_cannot_be_read_is_malformed(value: str) -> None:
    with pytest.raises(MalformedMessage):
        Challenge.parse(value)


COMPLETE = {
    "username": '"u"',
    "realm": '"r"',
    "nonce": '"n"',
    "uri": '"sip:a"',
    "response": '"0"',
    "qop": "auth",
    "nc": "00000001",
    "cnonce": '"c"',
}


def field(**changed: str) -> str:
    params = {name: value for name, value in {**COMPLETE, **changed}.items() if value}
    return "Digest " + ",".join(f"{name}={value}" for name, value in params.items())


@pytest.mark.parametrize("name", COMPLETE)
def test_credentials_need_every_parameter(name: str) -> None:
    assert Credentials.parse(field()) is not None
    if name == "qop":
        return  # without it they are RFC 2069's
    with pytest.raises(MalformedMessage):
        Credentials.parse(field(**{name: ""}))


@pytest.mark.parametrize("count", ["1", "0000000g", "000000001", "+0000001"])
def test_a_count_has_eight_digits(count: str) -> None:
    with pytest.raises(MalformedMessage):
        Credentials.parse(field(nc=count))


def test_credentials_for_another_realm_or_scheme_are_passed_over() -> None:
    values = ["Bearer abc", field(realm='"other"'), field()]
    found = of_realm(values, "r")
    assert found is not None and found.realm == "r"
    assert of_realm(values[:2], "r") is None


def test_what_is_personal_does_not_show() -> None:
    found = Credentials.parse(field(username='"ann"', response='"c0ffee"'))
    assert "ann" not in repr(found) and "c0ffee" not in repr(found)


# --- nonces


def test_a_nonce_is_good_once_a_count_until_it_is_too_old() -> None:
    nonces = Nonces(b"secret")
    nonce = nonces.make("192.0.2.1", 1000.0)
    assert nonces.take(nonce, 1, "192.0.2.1", 1000.0)
    assert not nonces.take(nonce, 1, "192.0.2.1", 1001.0)
    assert nonces.take(nonce, 3, "192.0.2.1", 1002.0)
    assert not nonces.take(nonce, 2, "192.0.2.1", 1003.0)
    assert nonces.take(nonce, 4, "192.0.2.1", 1000.0 + LIFETIME_S)
    assert not nonces.take(nonce, 5, "192.0.2.1", 1000.1 + LIFETIME_S)


def test_a_nonce_is_good_only_for_its_address_and_its_maker() -> None:
    nonces = Nonces(b"secret")
    nonce = nonces.make("192.0.2.1", 1000.0)
    assert not nonces.take(nonce, 1, "192.0.2.2", 1000.0)
    assert not Nonces(b"another").take(nonce, 1, "192.0.2.1", 1000.0)
    assert not nonces.take(nonce, 0, "192.0.2.1", 1000.0)
    assert nonces.take(nonce, 1, "192.0.2.1", 1000.0)


def test_a_nonce_that_was_changed_anywhere_is_not_ours() -> None:
    nonces = Nonces(b"secret")
    nonce = nonces.make("192.0.2.1", 1000.0)
    for index in range(len(nonce)):
        for char in "A-!\xe9":
            changed = nonce[:index] + char + nonce[index + 1 :]
            assert changed == nonce or not nonces.take(changed, 9, "192.0.2.1", 1000.0)
    for changed in ("", nonce[:-1], nonce + "A", nonce[:-4] + "===="):
        assert not nonces.take(changed, 9, "192.0.2.1", 1000.0)


def test_no_two_nonces_are_alike() -> None:
    nonces = Nonces(b"secret")
    assert len({nonces.make("192.0.2.1", 1000.0) for _ in range(1000)}) == 1000


def test_the_table_of_counts_is_bounded_and_what_it_forgot_is_good_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.sip.nonce.MOST_COUNTED", 10)
    nonces = Nonces(b"secret")
    made = [nonces.make("192.0.2.1", 1000.0 + number) for number in range(11)]
    for nonce in made:
        assert nonces.take(nonce, 1, "192.0.2.1", 1020.0)
    assert len(nonces) == 10
    assert not nonces.take(made[0], 1, "192.0.2.1", 1020.0)  # the count of which is forgotten
    assert nonces.take(made[1], 2, "192.0.2.1", 1020.0)


def test_counts_of_old_nonces_are_dropped() -> None:
    nonces = Nonces(b"secret")
    for number in range(100):
        now = 1000.0 + 100 * number
        assert nonces.take(nonces.make("192.0.2.1", now), 1, "192.0.2.1", now)
    assert len(nonces) <= 5


def test_a_quoted_string_without_end_is_soon_read() -> None:
    """Anybody may send one, and more of them than could be read letter by letter."""
    letters = re.compile(r'Digest username="(?:[^"\\]|\\.)*"')
    field = 'Digest username="' + 65536 * "a"

    def took(read: Callable[[str], object]) -> float:
        def once() -> float:
            began = time.process_time()
            with contextlib.suppress(MalformedMessage):
                assert not read(field)
            return time.process_time() - began

        return min(once() for _ in range(10))

    assert took(Credentials.parse) < took(letters.match) / 2
