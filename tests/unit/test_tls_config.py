"""What a configuration may say of TLS, and how each mistake is explained."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.call.router import Router
from relay.config import Config, Listen, notes, read
from relay.errors import ConfigError
from relay.probe.certificates import Authority, Pair

HOST = "127.0.0.1"
SECURE = 'secure = true\norigination = [{ uri = "sips:127.0.0.2" }]'


def text(pair: Pair | None, trunk: str = "", listen: str = "tls:127.0.0.1", more: str = "") -> str:
    files = f'certificate = "{pair.certificate}"\nkey = "{pair.key}"' if pair else ""
    return f"""
[region]
id = "t1"
jurisdiction = "EU"
networks = ["127.0.0.0/8"]
[sip]
listen = ["udp:127.0.0.1", "{listen}"]
{"[sip.tls]" if pair or more else ""}
{files}
{more}
[media]
address = "127.0.0.1"
[[trunk]]
name = "pbx"
allow = ["127.0.0.2/32"]
{trunk}
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("ours", HOST)


def mistakes(written: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read(written, "region.toml")
    return raised.value.mistakes


def test_the_port_of_tls_is_5061() -> None:
    assert Listen.parse("tls:127.0.0.1").port == 5061
    assert str(Listen.parse("tls:[::1]:5063")) == "tls:[::1]:5063"


def test_a_secure_trunk_is_accepted(pair: Pair, authority: Authority) -> None:
    config: Config = read(text(pair, SECURE, more=f'ca = "{authority.file}"'), "region.toml")
    assert config.trunk[0].secure and config.sip.tls is not None


@pytest.mark.parametrize(
    ("trunk", "listen", "expected"),
    [
        (
            'secure = true\norigination = [{ uri = "sip:127.0.0.2" }]',
            "tls:127.0.0.1",
            "trunk[0].origination[0].uri: sip:127.0.0.2 is not TLS but the trunk is secure",
        ),
        (
            SECURE + '\ndisaster_recovery = "sip:127.0.0.9;transport=tcp"',
            "tls:127.0.0.1",
            "trunk[0].disaster_recovery: sip:127.0.0.9;transport=tcp is not TLS",
        ),
        ("secure = true", "tcp:127.0.0.1", "trunk[0].secure: nothing in sip.listen is tls"),
        (
            'tls_names = ["pbx.example"]',
            "tcp:127.0.0.1",
            "trunk[0].tls_names: nothing in sip.listen is tls",
        ),
        ('tls_names = ["*.example"]', "tls:127.0.0.1", "a wildcard names nobody"),
        ('tls_names = ["p b x"]', "tls:127.0.0.1", "is not a name of a certificate"),
        (
            'tls_names = ["pbx.example", "sip:PBX.Example"]',
            "tls:127.0.0.1",
            "trunk[0].tls_names[1]: pbx.example is listed in trunk[0].tls_names[0] already",
        ),
        (
            'origination = [{ uri = "sips:127.0.0.2;transport=udp" }]',
            "tls:127.0.0.1",
            "sips: is TLS, which UDP cannot carry",
        ),
    ],
)
def test_mistakes_of_trunks(pair: Pair, trunk: str, listen: str, expected: str) -> None:
    found = mistakes(text(pair, trunk, listen))
    assert any(expected in mistake for mistake in found), found


def test_a_listener_needs_a_certificate() -> None:
    (found,) = mistakes(text(None))
    assert found == "sip.listen[1]: tls:127.0.0.1:5061 needs [sip.tls] with certificate and key"


def test_half_a_pair_is_none(authority: Authority) -> None:
    found = mistakes(text(None, more='certificate = "some.pem"'))
    assert "sip.tls: certificate and key belong together: one of them is missing" in found


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("missing", "cannot be read: No such file"),
        ("other key", "is the key of another certificate than"),
        ("expired", "expired on "),
        ("ca", "holds no certificates in PEM"),
    ],
)
def test_files_are_checked_before_anything_is_served(
    authority: Authority, tmp_path: Path, bad: str, expected: str
) -> None:
    pair, more = authority.issue(f"a {bad}", HOST), ""
    if bad == "missing":
        pair.key.unlink()
    elif bad == "other key":
        os.replace(authority.issue("another", HOST).key, pair.key)
    elif bad == "expired":
        pair = authority.issue("old", HOST, begins=-9, days=-2)
    else:
        (tmp_path / "ca.pem").write_text("nothing")
        more = f'ca = "{tmp_path / "ca.pem"}"'
    (found,) = mistakes(text(pair, more=more))
    assert found.startswith("sip.tls: ") and expected in found


def test_calls_over_tls_need_no_listener_but_that_is_noted() -> None:
    trunk = 'origination = [{ uri = "sip:127.0.0.2;transport=tls" }]'
    config = read(text(None, trunk, listen="tcp:127.0.0.1"), "region.toml")
    assert any("called over TLS but nothing in sip.listen is tls" in note for note in notes(config))


def test_a_certificate_near_its_end_is_noted(authority: Authority, pair: Pair) -> None:
    soon = authority.issue("soon", HOST, days=3.2)
    assert any("expires in 3 days" in note for note in notes(read(text(soon), "region.toml")))
    assert not any("expires" in note for note in notes(read(text(pair), "region.toml")))


@pytest.mark.parametrize(
    ("host", "names", "trunk"),
    [
        ("127.0.0.2", (), None),  # the certificate is missing
        ("127.0.0.2", ("pbx.example",), "both"),
        ("127.0.0.9", ("pbx.example",), None),  # not its address
        ("127.0.0.9", ("far.example",), "far"),
        ("127.0.0.2", ("far.example",), "far"),  # a certificate says more than an address
        ("10.0.0.1", ("far.example",), None),  # outside the region
        ("127.0.0.3", (), "plain"),
        ("127.0.0.3", ("pbx.example",), "plain"),
        ("127.0.0.3", ("unknown.example",), "plain"),
        ("127.0.0.9", ("unknown.example", "far.example"), "far"),
    ],
)
def test_whose_certificate_it_is(
    pair: Pair, host: str, names: tuple[str, ...], trunk: str | None
) -> None:
    trunks = """tls_names = ["pbx.example"]
[[trunk]]
name = "far"
tls_names = ["far.example", "FAR2.example"]
[[trunk]]
name = "plain"
allow = ["127.0.0.3/32"]
"""
    written = text(pair, trunks).replace('name = "pbx"', 'name = "both"')
    router = Router(read(written, "region.toml"))
    found = router.identify(host, frozenset(names))
    assert (found.name if found else None) == trunk
    address = router.at(host)
    assert (address is not None) == (host in ("127.0.0.2", "127.0.0.3"))
