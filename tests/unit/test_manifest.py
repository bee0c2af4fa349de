"""The manifest of a region: made from the configuration, signed, and compared at the start."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from string import ascii_letters, digits
from typing import Any

import pytest
from typer.testing import CliRunner

from relay.archive import Archive
from relay.cli import app
from relay.config import example
from relay.errors import KeyMissing, ManifestRefused
from relay.keys import pem
from relay.keys.ring import KeyRing
from relay.residency import manifest
from relay.residency.signing import is_signed_by, signed


class Region:
    """The example with keys of its own, and an officer who signs its manifest."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "manifest.json"
        self.private, self.public = directory / "o.key.pem", directory / "o.pub.pem"
        pem.create(self.private, self.public)
        self.ring, _ = KeyRing.create(directory / "keys")
        self.changes: list[tuple[str, str, Any]] = []

    def change(self, data: dict[str, Any]) -> None:
        data["region"] |= {"signing_key": str(self.public), "manifest": str(self.file)}
        data["keys"] = {"directory": str(self.ring.directory)}
        for section, key, value in self.changes:
            target = data["trunk"][0] if section == "trunk" else data.setdefault(section, {})
            target[key] = value

    @property
    def archive(self) -> Archive:
        return Archive(example(self.change))

    def sign(self) -> None:
        document = signed(self.archive.manifest, pem.read_private(self.private))
        self.file.write_text(json.dumps(document, indent=2))


@pytest.fixture
def region(tmp_path: Path) -> Region:
    made = Region(tmp_path)
    made.sign()
    return made


def test_a_signed_manifest_starts_and_its_digest_is_the_policy(region: Region) -> None:
    assert region.archive.check_manifest() == pem.read_private(region.private).key_id
    document = manifest.parse(region.file.read_bytes())
    assert manifest.digest(document) == region.archive.policy
    assert Archive(example()).check_manifest() == ""  # a laptop wants no signature


@pytest.mark.parametrize(
    ("section", "key", "value", "field"),
    [
        ("region", "enforce", False, "region.enforce was true and is false"),
        ("region", "networks", ["127.0.0.0/8", "::1/128", "192.0.2.0/24"], "networks was"),
        ("trunk", "recording_required", True, "trunks.acme.recording_required was false"),
        ("trunk", "allow", ["127.0.0.99/32"], "trunks.acme.networks was"),
        ("recording", "store", "file:elsewhere", 'recordings.store was "file:var/recordings"'),
        ("database", "url", "postgresql://relay@127.0.0.5/relay", "database.url was"),
        ("database", "tls", "off", 'database.tls was not there and is "off"'),
        ("audit", "anchors", ["file:anchor"], 'audit.anchors was [] and is ["file:anchor"]'),
        ("sip", "dns", {"servers": ["127.0.0.53"]}, "resolvers was"),
        ("access", "jurisdictions", ["EU", "US"], "access.jurisdictions was"),
    ],
)
def test_what_was_changed_and_not_signed_does_not_start(
    region: Region, section: str, key: str, value: object, field: str
) -> None:
    policy = region.archive.policy
    region.changes.append((section, key, value))
    with pytest.raises(ManifestRefused) as refused:
        region.archive.check_manifest()
    assert field in str(refused.value)
    assert region.archive.policy != policy
    region.sign()
    region.archive.check_manifest()


def test_another_key_of_the_region_is_another_manifest(region: Region) -> None:
    region.ring.rotate("recordings")
    with pytest.raises(ManifestRefused, match=r"keys\.recordings was"):
        region.archive.check_manifest()
    region.sign()
    (region.ring.directory / "recordings.json").unlink()
    with pytest.raises(ManifestRefused, match=r"keys\.recordings was .* and is not there"):
        region.archive.check_manifest()


def _leaves(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(document, dict) and document:
        return [leaf for key in document for leaf in _leaves(document[key], (*path, key))]
    return [path]


def test_each_field_of_the_signed_file_is_under_the_signature(region: Region) -> None:
    whole = region.file.read_text()
    keys = pem.read_public(region.public)
    for path in _leaves(json.loads(whole)):
        document = json.loads(whole)
        place = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = ["tampered"]
        with pytest.raises(ManifestRefused):
            manifest.verify(document, keys)
        del place[path[-1]]
        with pytest.raises(ManifestRefused):
            manifest.verify(document, keys)
    added = json.loads(whole) | {"more": 1}
    with pytest.raises(ManifestRefused, match="was changed after it was signed"):
        manifest.verify(added, keys)


def test_who_else_signs_is_refused_by_name(region: Region, tmp_path: Path) -> None:
    other = pem.create(tmp_path / "x.key.pem", tmp_path / "x.pub.pem")
    region.private = tmp_path / "x.key.pem"
    region.sign()
    with pytest.raises(ManifestRefused, match=f"is signed by {other}, not by signing-"):
        region.archive.check_manifest()
    region.file.write_text(json.dumps(region.archive.manifest))
    with pytest.raises(ManifestRefused, match="is not signed"):
        region.archive.check_manifest()
    region.file.write_text("{}")
    with pytest.raises(ManifestRefused, match="is no manifest"):
        region.archive.check_manifest()
    region.file.unlink()
    with pytest.raises(ManifestRefused, match=r"manifest\.json: No such file"):
        region.archive.check_manifest()
    region.public.unlink()
    region.sign()
    with pytest.raises(KeyMissing, match=r"o\.pub\.pem: No such file"):
        region.archive.check_manifest()


def test_a_document_and_its_signature_have_one_form(region: Region) -> None:
    document = manifest.parse(region.file.read_bytes())
    keys = pem.read_public(region.public)
    value = document["signature"]["ed25519"]
    alike = {
        f"{value[:-3]}{last}=="
        for last in ascii_letters + digits + "+/"
        if b64decode(f"{value[:-3]}{last}==") == b64decode(value)
    }
    assert len(alike) == 16
    for other in alike - {value}:
        claim = {**document["signature"], "ed25519": other}
        assert not is_signed_by({**document, "signature": claim}, keys)
    assert is_signed_by(document, keys)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"format": "relay-manifest-1", "networks": ["0.0.0.0/0"], "networks": []}', "twice"),
        ('{"format": "relay-manifest-1", "region": {"enforce": true, "enforce": false}}', "twice"),
        ("[" * 100_000, "too deeply"),
        ("[]", "is no manifest"),
    ],
)
def test_what_others_may_read_in_another_way_is_no_manifest(text: str, why: str) -> None:
    with pytest.raises(ManifestRefused, match=why):
        manifest.parse(text.encode())


def test_no_secret_is_in_a_manifest() -> None:
    def change(data: dict[str, Any]) -> None:
        data["database"] = {"url": "postgresql://relay@127.0.0.5/r", "password": "hush-hush"}
        data["trunk"][0]["credentials"] = [{"username": "pbx", "password": "hush-hush"}]

    assert "hush" not in json.dumps(Archive(example(change)).manifest)


def _relay(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """keygen, show, sign, verify, and `relay check` of what is not signed."""
    monkeypatch.chdir(tmp_path)
    assert _relay("region", "keygen", "officer")[0] == 0
    assert (tmp_path / "officer.key.pem").stat().st_mode & 0o777 == 0o600
    code, said = _relay("region", "keygen", "officer")
    assert code == 2 and "is there already" in said
    text = Path(__file__).parents[2].joinpath("relay/example.toml").read_text()
    before = text
    text = text.replace(
        'id = "ie1" ', 'signing_key = "officer.pub.pem"\nmanifest = "m.json"\nid = "ie1" ', 1
    )
    assert text != before
    Path("region.toml").write_text(text)
    code, said = _relay("check", "-c", "region.toml")
    assert code == 2 and "m.json: No such file" in said
    code, said = _relay("region", "show", "-c", "region.toml")
    assert code == 0 and '"jurisdiction": "EU"' in said and "would not start" in said
    code, said = _relay("region", "sign", "-c", "region.toml", "--key", "officer.key.pem")
    assert code == 0 and "signed by signing-" in said
    assert _relay("check", "-c", "region.toml")[0] == 0
    code, said = _relay("region", "verify", "-c", "region.toml")
    assert code == 0 and "is signed by" in said
    Path("region.toml").write_text(text.replace('jurisdiction = "EU"', 'jurisdiction = "US"'))
    code, said = _relay("check", "-c", "region.toml")
    assert code == 2 and 'region.jurisdiction was "EU" and is "US"' in said
    code, said = _relay("region", "verify", "m.json", "--key", "officer.pub.pem")
    assert code == 0 and "is signed by" in said  # alone, it is what was signed
    code, said = _relay("region", "sign", "-c", "region.toml", "--key", "officer.key.pem")
    assert code == 0 and 'changed: region.jurisdiction was "EU" and is "US"' in said
    code, said = _relay("region", "verify", "m.json")
    assert code == 1 and "FILE and --key" in said
