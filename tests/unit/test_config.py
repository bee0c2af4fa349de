"""Configurations: what is accepted, and how each mistake is explained."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

import relay
from relay.config import Config, Listen, example, load, notes, read
from relay.config.values import Section
from relay.errors import ConfigError
from relay.keys.customer import PrivateKey

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "relay.example.toml").read_text("utf-8")


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read(text, "region.toml")
    assert raised.value.file == "region.toml"
    return raised.value.mistakes


def changed(*pairs: tuple[str, str]) -> str:
    text = EXAMPLE
    for old, new in pairs:
        assert old in text, f"{old!r} is not in the example"
        text = text.replace(old, new, 1)
    return text


def test_the_packaged_example_is_the_one_at_the_top() -> None:
    assert (Path(relay.__file__).parent / "example.toml").read_text("utf-8") == EXAMPLE


def test_the_example_is_a_laptop_region() -> None:
    config = example()
    assert config == load(ROOT / "relay.example.toml")
    assert config.region.id == "ie1"
    assert [str(listen) for listen in config.sip.listen] == [
        "udp:127.0.0.1:5060",
        "tcp:127.0.0.1:5060",
    ]
    assert config.media.ports == (20000, 39999)
    assert config.media.calls_that_fit == 5000
    assert config.media.idle_timeout_s == 60
    assert [trunk.name for trunk in config.trunk] == ["acme", "carrier"]
    assert config.trunk[0].allow == (ipaddress.ip_network("127.0.0.2/32"),)
    assert config.trunk[0].recording == "record-from-answer-dual"
    assert config.trunk[1].recording == "do-not-record"
    assert config.trunk[1].origination[0].priority == 10
    assert config.route[0].from_ == "acme"
    assert not config.trunk[0].symmetric_rtp


def _keys(section: type[Section]) -> Iterator[str]:
    """Every key of a section and of those within it, as it is written."""
    for name, info in section.model_fields.items():
        yield info.alias or name
        inner = [kind for kind in _kinds(info.annotation) if issubclass(kind, Section)]
        for kind in inner:
            if kind is not Listen:  # written as text
                yield from _keys(kind)


def _kinds(annotation: Any) -> Iterator[type]:
    """The classes that a field's annotation is made of."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def test_every_key_is_shown_in_the_example() -> None:
    keys = set(_keys(Config))
    assert {"srtp_suites", "registrar", "timeout_s", "from", "weight"} <= keys
    missing = {key for key in keys if not re.search(rf"\b{key}\b( =|\]\])|\[{key}\]", EXAMPLE)}
    assert missing == set()


def test_where_http_is_listened_at() -> None:
    http = example().http
    assert http is not None and http.address == ("127.0.0.1", 8080)
    config = read(changed(('"127.0.0.1:8080"', '"[::1]:8080"')), "region.toml")
    assert config.http is not None and config.http.address == ("::1", 8080)
    wide = read(changed(('"127.0.0.1:8080"', '"0.0.0.0:8080"')), "region.toml")
    told = [note for note in notes(wide) if note.startswith("http.listen")]
    assert told and "HTTPS" in told[0]
    assert not any("http.listen" in note for note in notes(example()))


def test_where_voice_clients_connect() -> None:
    listens = '["udp:127.0.0.1:5060", "ws:127.0.0.1:5070", "ws:[::1]:5070"]'
    text = changed(
        ('["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"]', listens),
        ('# advertise = "203.0.113.10"', 'advertise = "203.0.113.10"'),
        ('address = "127.0.0.1"', 'address = "127.0.0.1"\naddress_ipv6 = "::1"'),
    )
    assert read(text, "region.toml").client_urls == ("ws://203.0.113.10:5070", "ws://[::1]:5070")


def test_how_a_trunks_media_are_secured() -> None:
    assert example().trunk[0].media_security.mode == "off"
    text = changed(('# srtp = "required"', 'srtp = "required"'), ("# srtp_suites", "srtp_suites"))
    config = read(text, "region.toml")
    assert config.trunk[0].media_security == (
        "required",
        ("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"),
    )
    assert any("trunk acme: srtp without secure" in note for note in notes(config))


def test_a_pool_smaller_than_the_limits_is_noted() -> None:
    config = read(changed(('"20000-39999"', '"20000-20399"')), "region.toml")
    assert any("holds 100 calls" in note and "2000" in note for note in notes(config))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[region]", "[regoin]", "regoin is an unknown key: did you mean 'region'?"),
        ("[region]", "[regoin]", "[region] is missing"),
        ("jurisdiction =", "jurisdicton =", "region.jurisdicton is an unknown key: did you mean"),
        ("jurisdiction =", "jurisdicton =", "region.jurisdiction is missing"),
        ('"::1/128"', '"::1/129"', "region.networks[1]: '::1/129' is not a network"),
        ("127.0.0.2/32", "127.0.0.2/24", "trunk[0].allow[0]: '127.0.0.2/24' has bits beyond"),
        ("127.0.0.2/32", "127.0.0.2/24", "did you mean 127.0.0.0/24?"),
        ('"udp:127.0.0.1:5060"', '"udp:localhost:5060"', "sip.listen[0]: 'localhost' is not an IP"),
        ('"udp:127.0.0.1:5060"', '"udp:127.0.0.1:70000"', "the port is not 1 to 65535"),
        ('"udp:127.0.0.1:5060"', '"udp:::1"', "sip.listen[0]: 'udp:::1' is not of the form"),
        ('"udp:127.0.0.1:5060"', '"sctp:127.0.0.1"', "sip.listen[0]: sctp: is no transport"),
        ('"tcp:127.0.0.1:5060"', '"udp:127.0.0.1:5060"', "sip.listen[1]: udp:127.0.0.1:5060 is li"),
        ('"udp:127.0.0.1:5060"', '"udp:0.0.0.0:5060"', "set sip.advertise"),
        ('"udp:127.0.0.1:5060"', '"udp:[::]:5060"', "set sip.advertise_ipv6"),
        ('"udp:127.0.0.1:5060"', '"udp:[fe80::1]:5060"', "is a link-local address"),
        ('"udp:127.0.0.1:5060"', '"udp:[fe80::1%eth0]:5060"', "is a link-local address"),
        ('"udp:127.0.0.1:5060"', '"udp:[::ffff:127.0.0.1]"', "write 127.0.0.1"),
        ("[media]", 'advertise = "::1"\n[media]', "sip.advertise: ::1 is not IPv4"),
        ("[media]", 'advertise_ipv6 = "127.0.0.1"\n[media]', "127.0.0.1 is not an IPv6 address"),
        ("ports =", 'address_ipv6 = "::"\nports =', "media.address_ipv6: :: is no address to"),
        ("ports =", 'address_ipv6 = "fe80::1%lo"\nports =', "'fe80::1%lo' is a link-local"),
        ("ports =", 'advertise_ipv6 = "::1"\nports =', "there is no media.address_ipv6"),
        ('"127.0.0.2/32"', '"fe80::%eth0/64"', "names a link"),
        ('address = "127.0.0.1"', 'address = "0.0.0.0"', "media.address: 0.0.0.0 is no address"),
        ('"20000-39999"', '"39999-20000"', "media.ports: '39999-20000' ends before it begins"),
        ('"20000-39999"', '"80-39999"', "media.ports: '80-39999' is not within 1024-65535"),
        ('"20000-39999"', '"20000-70000"', "media.ports: '20000-70000' is not within"),
        ('"20000-39999"', '"20000"', "media.ports: '20000' is not a range"),
        ('"20000-39999"', '"20000-20002"', "one call needs four ports"),
        ('"20000-39999"', '"5000-5999"', "media.ports: 5000-5999 overlaps sip.listen[0]"),
        ('"20000-39999"', "20000", "media.ports: is written as text"),
        ("workers = 1", 'workers = "1"', "media.workers: is a whole number, without quotes (it"),
        ("workers = 1", "workers = 0", "media.workers: is at least 1 (it is 0)"),
        ("calls_per_second = 100", "calls_per_secnd = 100", "did you mean 'calls_per_second'?"),
        ("calls_per_second = 100", "calls_per_second = true", "trunk[0].calls_per_second: is a"),
        ("concurrent_calls = 2000", "concurrent_calls = -1", "concurrent_calls: is at least 1"),
        ("record-from-answer-dual", "record-from-awnser-dual", "did you mean 'record-from-answer-"),
        ("priority = 10", "prio = 10", "trunk[0].origination[0].prio is an unknown key"),
        ("weight = 10", "weight = 0", "trunk[0].origination[0].weight: is at least 1"),
        (
            "sip:127.0.0.2:5080",
            "127.0.0.2:5080",
            "trunk[0].origination[0].uri: '127.0.0.2:5080' is",
        ),
        (
            "sip:127.0.0.2:5080",
            "sip:10.0.1",
            "trunk[0].origination[0].uri: '10.0.1' is neither an IP address nor a name",
        ),
        ("sip:127.0.0.2:5080", "sip:bob@127.0.0.2", "an origination URI is an address only"),
        ('to = "carrier"', 'to = "carier"', "route[0].to: there is no trunk 'carier': did you me"),
        ('from = "carrier"', 'from = "carriers"', "route[1].from: there is no trunk 'carriers'"),
        ('number = "+*"', 'number = "+35*3"', "route[0].number: '+35*3': * stands only at the end"),
        ('number = "+*"', 'number = "+353x"', "route[0].number: '+353x' is not + and up to 15"),
        ('name = "carrier"', 'name = "acme"', "trunk[1].name: 'acme' is trunk[0] already"),
        ('name = "acme"', 'name = "a cme"', "trunk[0].name: 'a cme' may hold letters"),
        ("127.0.0.3/32", "127.0.0.2/32", "trunk[1].allow[0]: 127.0.0.2/32 is listed in trunk[0]"),
        ("file:var/recordings", "var/recordings", "did you mean 'file:var/recordings'?"),
        ('"127.0.0.1:8080"', '"127.0.0.1"', "http.listen: '127.0.0.1' is not of the form 127.0."),
        ('"127.0.0.1:8080"', '"localhost:8080"', "http.listen: 'localhost:8080' is not an IP"),
        ('"127.0.0.1:8080"', '"192.0.2.1:8080"', "http.listen: 192.0.2.1 is outside region.netw"),
        ("[[route]]", "[route]", "is not TOML"),
        ("[[trunk]]", "[trunk]", "every trunk begins with [[trunk]]"),
        ('id = "ie1"', "id = ie1", "(at line 10, column 6): id = ie1: text stands in quotes"),
        ("[media]", "", "sip.workers is an unknown key: it belongs to [media]"),
        ('listen = ["udp', 'listen = "udp', "is not TOML"),
        ('["127.0.0.3/32"]', '"127.0.0.3/32"', "trunk[1].allow: is a list in brackets: allow = ["),
        (
            '[{ uri = "sip:127.0.0.3:5070" }]',
            '["sip:127.0.0.3:5070"]',
            'trunk[1].origination[0]: is written { uri = "sip:192.0.2.1:5060" }',
        ),
        ('number = "+*"', "number = 353", "route[0].number: is text in quotes"),
        (
            "# srtp_suites = [",
            'srtp_suites = ["AES_CM_128_HMAC_SHA1_64", ',
            "trunk[0].srtp_suites[0]: 'AES_CM_128_HMAC_SHA1_64' is none of",
        ),
        ("# symmetric_rtp = true", 'symmetric_rtp = "yes"', "is true or false, without quotes"),
        ('address = "127.0.0.1"', 'address = "::1"', "::1 is not IPv4: it belongs to media.addr"),
        ('"udp:127.0.0.1:5060"', '"udp:[::1]:5060"', "media.address_ipv6 is missing: calls over"),
        ('"udp:127.0.0.1:5060"', '"127.0.0.1:5060"', "is not of the form udp:192.0.2.1:5060"),
        (
            "sip:127.0.0.2:5080",
            "sip:[::1]:5080",
            "trunk[0].origination[0].uri: no address in sip.listen is IPv6",
        ),
    ],
)
def test_a_mistake_names_its_key_and_what_is_near(old: str, new: str, expected: str) -> None:
    found = mistakes(changed((old, new)))
    assert any(expected in mistake for mistake in found), found


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("file:var/recordings", "s3://bucket/prefix", "recording.store"),
        ("# s3 = {", "s3 = {", "recording.s3"),
        ('spool = "var/spool"', 'spool = "./var/recordings"', "recording.spool"),
    ],
)
def test_a_store_and_its_holder_belong_together(old: str, new: str, key: str) -> None:
    found = mistakes(changed((old, new)))
    assert any(mistake.startswith(key) for mistake in found), found


def test_a_bucket_is_reached_over_tls_inside_the_region() -> None:
    bucket = ("file:var/recordings", "s3://bucket/prefix")
    for endpoint, problem in {
        "http://127.0.0.1:9000": "it is not written https://HOST[:PORT]",
        "https://user:secret@127.0.0.1": "it is not written https://HOST[:PORT]",
        "https://[::1]:9000": "it is not written https://HOST[:PORT] (of IPv6: a name)",
        "https://127.0.0.1/path": "it is not written https://HOST[:PORT]",
        "https://198.51.100.7": "recording.s3.endpoint: 198.51.100.7 is outside region.networks",
        "https://127.0.0.1:9000": "recording.s3.ca: authorities.pem: cannot be read: No such file",
    }.items():
        found = mistakes(
            changed(
                bucket,
                ("# s3 = {", "s3 = {"),
                ("https://192.0.2.20:9000", endpoint),
                ('"env:S3_SECRET"', '"secret"'),
            )
        )
        assert any(problem in mistake for mistake in found), found
        assert "user" not in "".join(found)


def test_a_password_never_shows_even_when_it_is_the_mistake() -> None:
    wrong = (
        'name = "acme"\ncredentials = [{ username = 7, password = 987654, pasword = "hunter2" }]'
    )
    found = mistakes(changed(('name = "acme"', wrong)))
    assert any("trunk[0].credentials[0].pasword is an unknown key" in text for text in found)
    assert "hunter2" not in " ".join(found)
    assert "987654" not in " ".join(found)


def test_a_password_does_not_show_in_what_is_printed_of_a_configuration() -> None:
    secrets = 'credentials = [{ username = "a", password = "hunter2" }]'
    config = read(changed(('name = "acme"', f'name = "acme"\n{secrets}')), "region.toml")
    assert config.trunk[0].credentials[0].password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(config) + str(config) + config.model_dump_json()


def test_a_trunk_says_what_its_calls_are_known_by() -> None:
    secrets = 'credentials = [{ username = "a", password = "hunter2" }]'
    both = read(changed(('name = "acme"', f'name = "acme"\n{secrets}')), "region.toml")
    assert both.trunk[0].known_by == ("127.0.0.2/32", "a password")
    where = 'register = { registrar = "sip:127.0.0.3", user = "ie1" }'
    registers = read(changed(('allow = ["127.0.0.3/32"]', where)), "region.toml")
    assert registers.trunk[1].known_by == ()
    told = "trunk carrier registers us, but its calls are known by nothing: it has no allow"
    assert told in notes(registers)


def test_a_registrar_is_inside_the_region() -> None:
    where = 'register = { registrar = "sip:192.0.2.1:5060", user = "ie1" }'
    found = mistakes(changed(('name = "carrier"', f'name = "carrier"\n{where}')))
    assert found == ["trunk[1].register.registrar: 192.0.2.1 is outside region.networks of ie1"]


@pytest.mark.parametrize(
    ("registrar", "user"),
    [
        ("127.0.0.3", "ie1"),
        ("sip:ie1@127.0.0.3", "ie1"),
        ("sip:127.0.0.3", "ie1@127.0.0.3"),
        ("sip:127.0.0.3", ""),
    ],
)
def test_a_registrar_and_a_user_that_cannot_be_meant(registrar: str, user: str) -> None:
    where = f'register = {{ registrar = "{registrar}", user = "{user}" }}'
    assert mistakes(changed(('name = "carrier"', f'name = "carrier"\n{where}')))


def test_a_user_name_stands_for_one_trunk_where_no_address_does() -> None:
    both = '{ username = "a", password = "x" }'
    once = f"credentials = [{both}]"
    text = changed(
        ('allow = ["127.0.0.2/32"]', once), ('allow = ["127.0.0.3/32"]', f"credentials = [{both}]")
    )
    assert mistakes(text) == [
        "trunk[1].credentials[0].username: trunk[0].credentials[0] has this name already"
    ]
    apart = changed(
        ('allow = ["127.0.0.2/32"]', f'allow = ["127.0.0.2/32"]\n{once}'),
        ('allow = ["127.0.0.3/32"]', once),
    )
    assert read(apart, "region.toml").trunk[1].credentials


def test_nothing_outside_the_region_may_be_configured() -> None:
    found = mistakes(
        changed(
            ('"127.0.0.0/8", "::1/128"', '"127.0.0.0/31", "127.0.0.3/32"'),
            ("# advertise", "advertise"),  # the address behind a NAT is ours all the same
        )
    )
    assert found == [
        "trunk[0].allow[0]: 127.0.0.2/32 is outside region.networks of ie1",
        "trunk[0].origination[0].uri: 127.0.0.2 is outside region.networks of ie1",
    ]


def test_nothing_is_kept_or_asked_outside_the_region() -> None:
    """A name may be configured: it is looked up, and each of its addresses checked then."""

    def at(host: str) -> Config:
        def change(data: dict[str, Any]) -> None:
            data["sip"]["dns"] = {"servers": ["127.0.0.53", f"{host}:5353"]}
            s3 = {"endpoint": f"https://{host}:9000", "region": "x"}
            s3 |= {"access_key": "relay", "secret_key": "secret"}
            data["recording"] = {"store": "s3://voice-ie1", "s3": s3}
            data["database"] = {"url": f"postgresql://relay@{host}/relay"}
            data["audit"] = {"anchors": ["file:anchor", f"https://{host}/anchor"]}

        return read(EXAMPLE, "region.toml", change)

    at("127.0.0.9")
    with pytest.raises(ConfigError) as raised:
        at("192.0.2.9")
    assert raised.value.mistakes == [
        f"{where}: 192.0.2.9 is outside region.networks of ie1"
        for where in (
            "sip.dns.servers[1]",
            "recording.s3.endpoint",
            "database.url",
            "audit.anchors[1]",
        )
    ]


def test_all_mistakes_are_told_at_once() -> None:
    found = mistakes(
        changed(
            ("jurisdiction =", "jurisdicton ="),
            ('"20000-39999"', '"9-8"'),
            ("record-from-answer-dual", "always"),
            ('to = "carrier"', 'to = "carier"'),
            ("[http]", "[htp]"),
        )
    )
    keys = ("htp", "region.jurisdicton", "media.ports", "trunk[0].recording", "route[0].to")
    for key in keys:
        assert any(mistake.startswith(key) for mistake in found), (key, found)


@pytest.mark.parametrize(
    ("old", "new", "only"),
    [
        ("[[trunk]]", "[[trunks]]", {"trunks", "[[trunk]]"}),
        (
            '["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"]',
            '["127.0.0.1:5060"]',
            {"sip.listen[0]:"},
        ),
    ],
)
def test_one_mistake_is_not_told_as_several(old: str, new: str, only: set[str]) -> None:
    """What follows from another mistake is left out."""
    found = mistakes(EXAMPLE.replace(old, new))
    assert {mistake.split()[0] for mistake in found} == only, found


def test_a_broken_line_is_not_shown_where_secrets_may_be() -> None:
    secrets = 'credentials = [{ username = "a", password = hunter2 }]'
    found = mistakes(changed(('name = "acme"', f'name = "acme"\n{secrets}')))
    assert "is not TOML" in found[0]
    assert "hunter2" not in found[0]


def test_a_network_within_anothers_is_no_mistake() -> None:
    assert read(changed(("127.0.0.2/32", "127.0.0.0/24")), "region.toml").trunk[0].allow


def test_a_route_needs_somewhere_to_go() -> None:
    off = 'origination = [{ uri = "sip:127.0.0.3:5070", enabled = false }]'
    found = mistakes(changed(('origination = [{ uri = "sip:127.0.0.3:5070" }]', off)))
    assert found == ["route[0].to: trunk 'carrier' has no enabled origination"]


def test_the_same_route_twice() -> None:
    again = EXAMPLE + '\n[[route]]\nfrom = "acme"\nnumber = "+*"\nto = "acme"\n'
    assert mistakes(again) == ["route[2].number: '+*' from 'acme' is route[0] already"]


@pytest.mark.parametrize(
    "text",
    ["", "region = 1\nsip = []\ntrunk = 5\nroute = 'x'", "[[region]]\n[trunk]\n", "trunk = [1, 2]"],
)
def test_shapes_that_make_no_sense_are_mistakes_too(text: str) -> None:
    assert "[media] is missing" in mistakes(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "binary.toml")


def test_concurrent_calls_counts_a_call_on_both_trunks() -> None:
    assert example().concurrent_calls == 2000
    small = read(changed(("concurrent_calls = 2000", "concurrent_calls = 10")), "region.toml")
    assert small.concurrent_calls == 10
    hairpin = EXAMPLE + '\n[[route]]\nfrom = "acme"\nnumber = "+1*"\nto = "acme"\n'
    assert read(hairpin, "region.toml").concurrent_calls == 4000


def test_listen_is_written_as_it_is_read() -> None:
    for text in ("udp:127.0.0.1:5060", "tcp:[::1]:5061"):
        assert str(Listen.parse(text)) == text
    assert Listen.parse("udp:127.0.0.1").port == 5060


def test_a_configuration_is_frozen() -> None:
    config: Config = example()
    with pytest.raises(ValueError, match="frozen"):
        config.sip.advertise = "127.0.0.9"  # type: ignore[misc]


def test_what_is_wanted_of_recordings_needs_some_and_a_customers_public_key(
    tmp_path: Path,
) -> None:
    """A private key must not even be read here."""
    PrivateKey.create().write(tmp_path / "private.json", tmp_path / "public.json")
    (tmp_path / "other.json").write_text('{"key": []}')
    recorded = 'recording = "record-from-answer-dual"'
    for name, problem in (
        ("public", None),
        ("private", "is the private key, which stays with the customer"),
        ("other", "is no public key for HPKE"),
        ("missing", "cannot be read: No such file or directory"),
    ):
        key = f'recording_key = "{tmp_path / name}.json"'
        text = changed((recorded, f"{recorded}\n{key}"))
        if problem is None:
            assert read(text, "region.toml").trunk[0].recording_key
        else:
            assert mistakes(text) == [f"trunk[0].recording_key: {tmp_path / name}.json: {problem}"]
    off = changed((recorded, "recording_required = true"))
    assert mistakes(off) == ["trunk[0].recording_required: recording is do-not-record"]
