"""`relay token`: what it makes is taken by the region that it is for, and mistakes are told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from typer.testing import CliRunner, Result

from relay.call.clients import Client
from relay.call.tokens import Tokens
from relay.cli import app
from relay.config import load
from tests.unit.token_samples import SECRET

EXAMPLE = (Path(__file__).parents[2] / "relay.example.toml").read_text("utf-8")


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.fixture
def region(tmp_path: Path) -> Path:
    """A configuration whose account has a key of each kind; the private one is beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "app.key.pem").write_bytes(pem(key))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "app.pub.pem").write_bytes(public)
    path = tmp_path / "region.toml"
    path.write_text(
        EXAMPLE.replace('"udp:127.0.0.1:5060",', '"udp:127.0.0.1:5060", "ws:127.0.0.1:5070",', 1)
        + f"""
[[account]]
name = "app"
keys = [
  {{ id = "k1", secret = "{SECRET}" }},
  {{ id = "k2", algorithm = "ES256", public_key = "{tmp_path}/app.pub.pem" }},
]
"""
    )
    return path


def test_check_sums_up_accounts(region: Path) -> None:
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).invoke(
        app, ["check", "-c", str(region)]
    )
    assert result.exit_code == 0, result.output
    assert "Accounts of voice clients" in result.stdout and "k2 (ES256)" in result.stdout
    assert SECRET not in result.output


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).invoke(
        app, ["token", *arguments]
    )


def made(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout.strip()


def taken(path: Path, token: str) -> Client:
    """By the region itself."""
    config = load(path)
    keys = {(each.name, key.id): key.read() for each in config.account for key in each.keys}
    return Tokens(config.region.id, config.account, keys, lambda: datetime.now(UTC)).admit(token, 0)


def test_the_accounts_first_key_signs(region: Path) -> None:
    client = taken(region, made("-c", str(region), "--account", "app", "--identity", "alice"))
    assert client.identity == "alice" and client.may_call_out and client.may_be_called
    assert 3590 < client.until <= 3600


def test_what_a_token_is_to_say(region: Path) -> None:
    options = ("--ttl", "15m", "--no-out", "--no-in", "--number", "+35315550111")
    client = taken(
        region, made("-c", str(region), "--account", "app", "--identity", "bob", *options)
    )
    assert not client.may_call_out and not client.may_be_called
    assert client.caller_number == "+35315550111" and 890 < client.until <= 900


def test_es256_needs_the_private_key(region: Path) -> None:
    ask = ("-c", str(region), "--account", "app", "--identity", "alice", "--kid", "k2")
    refused = run(*ask)
    assert refused.exit_code == 2 and "ES256: give the account's private key" in refused.stderr
    assert taken(region, made(*ask, "--key", str(region.parent / "app.key.pem")))


def test_a_key_file_is_enough(region: Path) -> None:
    key = str(region.parent / "app.key.pem")
    options = ("--kid", "k2", "--region", "ie1", "--account", "app", "--identity", "alice")
    assert taken(region, made("--key", key, *options))
    secret = region.parent / "secret"
    secret.write_text(SECRET + "\n")
    options = ("--kid", "k1", *options[2:])
    assert taken(region, made("--key", str(secret), *options))


def test_as_json(region: Path) -> None:
    text = made("-c", str(region), "--account", "app", "--identity", "alice", "--json")
    found = json.loads(text)
    assert taken(region, found["token"]).token_id == found["claims"]["jti"]
    assert found["claims"]["region"] == "ie1"


def test_no_two_have_the_same_id(region: Path) -> None:
    ask = ("-c", str(region), "--account", "app", "--identity", "alice")
    assert taken(region, made(*ask)).token_id != taken(region, made(*ask)).token_id


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--ttl", "25h"), "--ttl: '25h' is not 90s, 15m, 1h … up to 24h"),
        (("--ttl", "0"), "--ttl"),
        (("--ttl", "1y"), "--ttl"),
        (("--ttl", "-5"), "--ttl"),
        (("--identity", "alice@example.com"), "--identity: 'alice@example.com' is not of"),
        (("--number", "015550111"), "--number: '015550111' is no number"),
        (("--account", "ap"), "there is no account 'ap' (accounts: app)"),
        (("--kid", "k3"), "account 'app' has no key 'k3' (keys: k1, k2)"),
        (("--key", "/nowhere"), "key 'k1' is HS256 and has its secret there: no --key"),
        (("--kid", "k2", "--key", "/nowhere"), "/nowhere: 1 mistake"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_made(
    region: Path, options: tuple[str, ...], text: str
) -> None:
    result = run("-c", str(region), "--account", "app", "--identity", "alice", *options)
    assert result.exit_code == 2 and result.stdout == ""
    assert text in result.stderr
    assert SECRET not in result.stderr


def test_without_a_configuration_there_is_the_example() -> None:
    result = run("--account", "app", "--identity", "alice")
    assert result.exit_code == 2
    assert "there is no account 'app' (accounts: none)" in result.stderr


def test_a_key_file_alone_needs_to_know_the_region(tmp_path: Path) -> None:
    result = run("--key", str(tmp_path / "x"), "--account", "app", "--identity", "alice")
    assert result.exit_code == 2
    assert "--kid is needed" in result.stderr and "--region is needed" in result.stderr


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"too short", "at least 32 characters"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"-----BEGIN PRIVATE KEY-----\nx\n", "is not a private key in PEM"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (pem(rsa.generate_private_key(65537, 2048)), "P-256"),
        (pem(ec.generate_private_key(ec.SECP256R1()), b"secret"), "without a password"),
    ],
)
def test_a_key_file_that_cannot_sign(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "key").write_bytes(content)
    options = ("--kid", "k1", "--region", "ie1", "--account", "app", "--identity", "alice")
    result = run("--key", str(tmp_path / "key"), *options)
    assert result.exit_code == 2 and text in result.stderr
    assert "Traceback" not in result.output


def test_another_private_key_is_noticed(region: Path) -> None:
    other = region.parent / "other.pem"
    other.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    ask = ("-c", str(region), "--account", "app", "--identity", "alice", "--kid", "k2")
    result = run(*ask, "--key", str(other))
    assert result.exit_code == 2 and "is not the private key of" in result.stderr
