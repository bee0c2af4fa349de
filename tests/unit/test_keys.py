"""The region's keys: what they do, who may read them, and what a change of them means."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tink import aead, json_proto_keyset_format, secret_key_access

from relay.errors import KeyMissing, NotAuthentic
from relay.keys.ring import PURPOSES, KeyRing
from relay.keys.state import KeyState
from relay.residency.signing import is_signed_by, signed


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    """Keys that the test may change."""
    return KeyRing.create(tmp_path / "keys")[0]


def _state(ring: KeyRing, key: str) -> KeyState:
    return {each.id: each.state for each in ring.listed()}[key]


def test_creating_makes_what_is_missing_and_leaves_what_is_there(tmp_path: Path) -> None:
    ring, made = KeyRing.create(tmp_path / "a" / "keys")
    assert [name.rpartition("-")[0] for name in made] == list(PURPOSES)
    assert (tmp_path / "a" / "keys").stat().st_mode & 0o777 == 0o700
    for purpose in PURPOSES:
        assert (ring.directory / f"{purpose}.json").stat().st_mode & 0o777 == 0o600
    before = (ring.directory / "personal.json").read_bytes()
    (ring.directory / "index.json").unlink()
    again = KeyRing.create(ring.directory)[1]
    assert [name.rpartition("-")[0] for name in again] == ["index"]
    assert (ring.directory / "personal.json").read_bytes() == before
    assert sorted(os.listdir(ring.directory)) == sorted([".lock", *(f"{p}.json" for p in PURPOSES)])


def test_a_wrapped_data_key_is_opened_by_tink_itself(ring: KeyRing) -> None:
    key, wrapped = ring.recordings.wrap(b"k" * 32, "ie1/recording-1")
    document = (ring.directory / "recordings.json").read_text()
    handle = json_proto_keyset_format.parse(document, secret_key_access.TOKEN)
    assert handle.primitive(aead.Aead).decrypt(wrapped, b"ie1/recording-1") == b"k" * 32
    assert int(key.removeprefix("recordings-"), 16) == json.loads(document)["primaryKeyId"]


def test_what_was_sealed_opens_only_unchanged_and_only_for_its_own(ring: KeyRing) -> None:
    sealed = ring.personal.seal(b"+35315550199", "call 1")
    assert b"35315550199" not in sealed
    assert ring.personal.open(sealed, "call 1") == b"+35315550199"
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises((NotAuthentic, KeyMissing)):
            ring.personal.open(bytes(changed), "call 1")
    for octets, context in ((sealed, "call 2"), (sealed[:-1], "call 1"), (b"", "call 1")):
        with pytest.raises(NotAuthentic):
            ring.personal.open(octets, context)


def test_another_regions_key_is_named_and_not_tried(ring: KeyRing, keyring: KeyRing) -> None:
    key, wrapped = keyring.recordings.wrap(b"k" * 32, "x")
    with pytest.raises(KeyMissing, match=f"{key}.*not among"):
        ring.recordings.unwrap(wrapped, "x")


def test_a_rotation_is_seen_by_who_has_the_keys_open(ring: KeyRing) -> None:
    running = KeyRing.open(ring.directory)
    first, wrapped = running.recordings.wrap(b"k" * 32, "x")
    second = ring.rotate("recordings")
    assert running.recordings.wrap(b"k" * 32, "x")[0] == second != first
    assert running.recordings.unwrap(wrapped, "x") == b"k" * 32
    assert (_state(ring, first), _state(ring, second)) == (KeyState.ENABLED, KeyState.PRIMARY)


def test_a_retired_key_opens_nothing_until_it_is_restored(ring: KeyRing) -> None:
    first, wrapped = ring.recordings.wrap(b"k" * 32, "x")
    with pytest.raises(KeyMissing, match="primary key: rotate recordings first"):
        ring.change(first, KeyState.RETIRED)
    ring.rotate("recordings")
    ring.change(first, KeyState.RETIRED)
    with pytest.raises(KeyMissing, match=f"{first}.*is retired"):
        ring.recordings.unwrap(wrapped, "x")
    ring.change(first, KeyState.ENABLED)
    assert ring.recordings.unwrap(wrapped, "x") == b"k" * 32


def test_a_destroyed_key_is_gone_from_the_disk_and_never_comes_back(ring: KeyRing) -> None:
    first, wrapped = ring.recordings.wrap(b"k" * 32, "x")
    path = ring.directory / "recordings.json"
    secret = json.loads(path.read_text())["key"][0]["keyData"]["value"]
    ring.rotate("recordings")
    ring.change(first, KeyState.DESTROYED)
    assert secret not in path.read_text()
    for state in (KeyState.ENABLED, KeyState.RETIRED, KeyState.DESTROYED):
        with pytest.raises(KeyMissing, match="destroyed, for good"):
            ring.change(first, state)
    with pytest.raises(KeyMissing, match=f"{first}.*is destroyed"):
        ring.recordings.unwrap(wrapped, "x")
    assert ring.recordings.unwrap(ring.recordings.wrap(b"n" * 32, "y")[1], "y") == b"n" * 32


def test_a_number_is_found_under_the_index_of_before_a_rotation(ring: KeyRing) -> None:
    before = ring.index("number", "+35315550199")
    assert before == ring.index("number", "+35315550199") != ring.index("name", "+35315550199")
    assert ring.indexes("number", "+35315550199") == (before,)
    ring.rotate("index")
    now = ring.index("number", "+35315550199")
    assert now != before and set(ring.indexes("number", "+35315550199")) == {now, before}


def test_each_recipient_and_period_has_a_pseudonym_key_of_its_own(ring: KeyRing) -> None:
    asked = [("billing", "2026-11"), ("billing", "2026-12"), ("support", "2026-11"), ("b", "")]
    keys = {ring.pseudonym_key(*each) for each in asked}
    assert len(keys) == 4 and {len(key) for key in keys} == {32}
    assert ring.pseudonym_key("billing", "2026-11") in keys


def test_what_a_retired_signing_key_signed_can_still_be_verified(ring: KeyRing) -> None:
    old = signed({"call": "1"}, ring.signer)
    first = ring.signer.key_id
    second = ring.rotate("signing")
    new = signed({"call": "2"}, ring.signer)
    assert ring.signer.key_id == second and list(ring.public_keys) == [first, second]
    assert is_signed_by(old, ring.public_keys) and is_signed_by(new, ring.public_keys)
    assert not is_signed_by(old, {second: ring.public_keys[second]})
    assert json.loads((ring.directory / "signing.json").read_text()).keys() == {"private", "public"}
    with pytest.raises(KeyMissing, match="only its public half is kept"):
        ring.change(first, KeyState.ENABLED)


USES: list[Callable[[KeyRing], object]] = [
    lambda ring: ring.recordings.wrap(b"k" * 32, "x"),
    lambda ring: ring.personal.seal(b"x", "x"),
    lambda ring: ring.index("number", "+1"),
    lambda ring: ring.pseudonym_key("billing", "2026-11"),
    lambda ring: ring.signer.sign(b"x"),
]


@pytest.mark.parametrize(("purpose", "use"), list(zip(PURPOSES, USES, strict=True)))
def test_a_file_that_cannot_be_used_stops_what_needs_it(
    ring: KeyRing, purpose: str, use: Callable[[KeyRing], object]
) -> None:
    path = ring.directory / f"{purpose}.json"
    use(ring)
    path.chmod(0o640)
    for each in (ring, KeyRing(ring.directory)):
        with pytest.raises(KeyMissing, match=f"{purpose}.json: others may read it .mode 0640"):
            use(each)
    path.chmod(0o600)
    use(ring)
    other = "personal" if purpose == "index" else "index"
    for octets in (b"", b"{}", b"\xff", (ring.directory / f"{other}.json").read_bytes()):
        path.write_bytes(octets)
        with pytest.raises(KeyMissing, match=f"{purpose}.json: "):
            use(ring)
    path.unlink()
    with pytest.raises(KeyMissing, match=f"{purpose}.json: No such file.*relay keys create"):
        use(ring)
    with pytest.raises(KeyMissing, match=f"{purpose}.json"):
        KeyRing.open(ring.directory)


def test_a_directory_that_others_may_enter_is_refused(ring: KeyRing) -> None:
    ring.directory.chmod(0o750)
    with pytest.raises(KeyMissing, match=r"keys: others may read it \(mode 0750\).*chmod 700"):
        KeyRing.open(ring.directory)


def test_a_change_that_is_interrupted_leaves_the_keys_of_before(
    ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, wrapped = ring.recordings.wrap(b"k" * 32, "x")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        ring.rotate("recordings")
    assert ring.recordings.wrap(b"k" * 32, "x")[0] == first
    assert ring.recordings.unwrap(wrapped, "x") == b"k" * 32
    assert [name for name in os.listdir(ring.directory) if name.endswith(".new")] == []


def test_a_keyset_of_tink_with_a_primary_that_is_missing_is_no_keyset(ring: KeyRing) -> None:
    path = ring.directory / "recordings.json"
    document = json.loads(path.read_text())
    document["primaryKeyId"] = document["primaryKeyId"] % 1000 + 1
    path.write_text(json.dumps(document))
    with pytest.raises(KeyMissing, match=r"recordings\.json"):
        _ = ring.recordings.wrap(b"k" * 32, "x")


@pytest.mark.parametrize("purpose", ["recordings", "personal", "index", "pseudonyms"])
def test_a_key_of_no_use_in_a_file_of_the_right_form_is_told(ring: KeyRing, purpose: str) -> None:
    path = ring.directory / f"{purpose}.json"
    keyset = json.loads(path.read_bytes())
    keyset["key"][0]["keyData"]["value"] = base64.b64encode(b"\x1a\x05short").decode()
    path.write_text(json.dumps(keyset))
    with pytest.raises(KeyMissing, match=f"{purpose}.json: holds a key that cannot be used"):
        ring.check()


@pytest.mark.parametrize("state", [KeyState.RETIRED, KeyState.DESTROYED])
def test_a_key_that_finds_persons_is_never_retired(ring: KeyRing, state: KeyState) -> None:
    (old,) = ring.listed(["index"])
    before = ring.index("number", "1")
    ring.rotate("index")
    with pytest.raises(KeyMissing, match="could not be found"):
        ring.change(old.id, state)
    assert before in ring.indexes("number", "1")
