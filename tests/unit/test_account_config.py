"""What a configuration may say of accounts, and how each mistake is explained."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import ValidationError

from relay.config import Config, WebSocket, notes, read
from relay.errors import ConfigError
from tests.unit.token_samples import PRIVATE, PUBLIC, PUBLIC_PEM, SECRET

KEY = f'keys = [{{ id = "k1", secret = "{SECRET}" }}]'


def text(account: str, route: str = "", listen: str = "ws:127.0.0.1:5070") -> str:
    return f"""
[region]
id = "t1"
jurisdiction = "EU"
networks = ["127.0.0.0/8"]
[sip]
listen = ["udp:127.0.0.1", "{listen}"]
[media]
address = "127.0.0.1"
[[trunk]]
name = "pbx"
allow = ["127.0.0.2/32"]
origination = [{{ uri = "sip:127.0.0.2" }}]
[[account]]
{account}
{route}
"""


def good(account: str, route: str = "") -> Config:
    return read(text(account, route), "region.toml")


def mistakes(written: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read(written, "region.toml")
    return raised.value.mistakes


def test_what_an_account_has_by_default() -> None:
    (account,) = good(f'name = "app"\n{KEY}').account
    assert (account.contacts, account.registration_s, account.reconnect_s) == (10, 600, 30.0)
    assert account.clients == 10000 and account.transcode and account.caller_number is None
    assert account.keys[0].algorithm == "HS256" and account.keys[0].read() == SECRET.encode()


def test_a_secret_from_the_environment_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("APP_SECRET", SECRET)
    (tmp_path / "secret").write_text(SECRET + "\n")
    for source in ("env:APP_SECRET", f"file:{tmp_path}/secret"):
        (account,) = good(f'name = "app"\nkeys = [{{ id = "k1", secret = "{source}" }}]').account
        assert account.keys[0].read() == SECRET.encode()
        assert SECRET not in repr(account)


def test_a_public_key_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "app.pem"
    path.write_bytes(PUBLIC_PEM)
    key = f'keys = [{{ id = "k2", algorithm = "ES256", public_key = "{path}" }}]'
    (account,) = good(f'name = "app"\n{key}').account
    assert account.keys[0].read() == PUBLIC


def pem(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is not a public key in PEM"),
        (PUBLIC_PEM[:80], "is not a public key in PEM"),
        (pem(ec.generate_private_key(ec.SECP384R1()).public_key()), "is not a key of P-256"),
        (pem(rsa.generate_private_key(65537, 2048).public_key()), "is not a key of P-256"),
        (
            PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "is the private key, which stays with the account",
        ),
    ],
)
def test_a_public_key_that_cannot_be_used(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "app.pem"
    if content is not None:
        path.write_bytes(content)
    key = f'keys = [{{ id = "k2", algorithm = "ES256", public_key = "{path}" }}]'
    (mistake,) = mistakes(text(f'name = "app"\n{key}'))
    assert mistake.startswith(f"account[0].keys[0].public_key: {path}: ")
    assert told in mistake


@pytest.mark.parametrize(
    ("account", "told"),
    [
        (KEY, "account[0].name is missing"),
        ('name = "app"', "account[0].keys is missing"),
        ('name = "app"\nkeys = []', "account[0].keys"),
        ('name = "app"\nkeys = [{ id = "k1" }]', "HS256 has a secret and no public_key"),
        (
            f'name = "app"\nkeys = [{{ id = "k1", algorithm = "ES256", secret = "{SECRET}" }}]',
            "ES256 has a public_key and no secret",
        ),
        (
            'name = "app"\nkeys = [{ id = "k1", secret = "too short" }]',
            "HS256 needs at least 32 characters",
        ),
        (
            'name = "app"\nkeys = [{ id = "k1", secret = "-----BEGIN PUBLIC KEY-----MFkwEwYHKo" }]',
            "keys of that kind are for ES256",
        ),
        (
            f'name = "app"\nkeys = [{{ id = "k1", algorithm = "none", secret = "{SECRET}" }}]',
            "account[0].keys[0].algorithm",
        ),
        (
            f'name = "app"\nkeys = [{{ id = "k1", algorithm = "RS256", secret = "{SECRET}" }}]',
            "account[0].keys[0].algorithm",
        ),
        (
            f'name = "app"\nkeys = [{{ id = "a", secret = "{SECRET}" }}, '
            f'{{ id = "a", secret = "{SECRET}" }}]',
            "'a' is there twice",
        ),
        (f'name = "pbx"\n{KEY}', "account[0].name: 'pbx' is there already"),
        (f'name = "a b"\n{KEY}', "account[0].name"),
        (f'name = "app"\n{KEY}\ncaller_number = "015550100"', "is not an E.164 number"),
        (f'name = "app"\n{KEY}\nrevoked = "/nowhere"', "account[0].revoked: /nowhere cannot be"),
        (f'name = "app"\n{KEY}\ncontacts = 0', "account[0].contacts"),
        (f'name = "app"\n{KEY}\nregistration_s = 30', "account[0].registration_s"),
        (f'name = "app"\n{KEY}\nreconnect_s = -1', "account[0].reconnect_s"),
        (f'name = "app"\n{KEY}\nclients = 0', "account[0].clients"),
        (f'name = "app"\n{KEY}\nsecure = true', "account[0].secure is an unknown key"),
        (f'name = "app"\n{KEY}\ncontact = 3', "did you mean 'contacts'?"),
    ],
)
def test_a_mistake_is_told(account: str, told: str) -> None:
    found = mistakes(text(account))
    assert any(told in mistake for mistake in found), found
    assert not any(SECRET in mistake for mistake in found)


def test_an_account_needs_a_way_in() -> None:
    (mistake,) = mistakes(text(f'name = "app"\n{KEY}', listen="tcp:127.0.0.1"))
    assert "nothing in sip.listen is ws: or wss:" in mistake


def test_where_its_calls_go() -> None:
    route = '[[route]]\nfrom = "app"\nnumber = "+*"\nto = "pbx"\n'
    back = '[[route]]\nfrom = "pbx"\nnumber = "*"\nto = "app"\nidentity = "alice"\n'
    config = good(f'name = "app"\n{KEY}', route + back)
    assert [each.identity for each in config.route] == [None, "alice"]
    wrong = text(f'name = "app"\n{KEY}', route + 'identity = "alice"\n')
    assert any("'pbx' is a trunk: only accounts have clients" in each for each in mistakes(wrong))
    lost = text(f'name = "app"\n{KEY}', route.replace('"pbx"', '"pbbx"'))
    assert any("no trunk or account 'pbbx': did you mean 'pbx'?" in each for each in mistakes(lost))


def test_a_plain_listener_beyond_this_machine_is_noted() -> None:
    written = text(f'name = "app"\n{KEY}')
    plain = written.replace("127.0.0.", "192.0.2.").replace("127.0.0.0/8", "192.0.2.0/24")
    plain = plain.replace("192.0.2.0/8", "192.0.2.0/24").replace('"udp:192.0.2.1",', "")
    told = [note for note in notes(read(plain, "region.toml")) if "access tokens" in note]
    assert len(told) == 1 and told[0].startswith("ws:192.0.2.1:5070 is plain")
    assert not any("access tokens" in note for note in notes(read(written, "region.toml")))


@pytest.mark.parametrize("origin", ["https://app.example.com:443", "http://127.0.0.1:80"])
def test_an_origin_that_no_browser_sends_is_a_mistake(origin: str) -> None:
    with pytest.raises(ValidationError, match="browsers leave this port out"):
        WebSocket(origins=(origin,))
    WebSocket(origins=("https://app.example.com:8443", "http://127.0.0.1:443"))
