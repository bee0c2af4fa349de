"""Recordings are encrypted as Tink has it: it reads each file, nobody else reads any."""

from __future__ import annotations

import asyncio
import io
import json
import os
from pathlib import Path
from random import Random

import pytest
import tink
from tink import proto_keyset_format, secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from relay.errors import KeyMissing, NotAuthentic
from relay.keys.customer import CustomerKey, PrivateKey
from relay.keys.ring import KeyRing
from relay.recording.decryption import Decrypted, segments
from relay.recording.encryption import SEGMENT_OCTETS, EncryptedSink
from relay.recording.envelope import Envelope, WrappedKey, check, octets_of, seal, unseal
from relay.recording.sink import FileSink

streaming_aead.register()
CHANNELS = (1, 2)


def tink_reads(stored: bytes, data_key: bytes, envelope: Envelope) -> bytes:
    """By Tink itself, from a keyset that has the data key."""
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, key_value=data_key)
    key.params.ciphertext_segment_size = envelope.segment
    key.params.derived_key_size = 32
    key.params.hkdf_hash_type = common_pb2.SHA256
    keyset = tink_pb2.Keyset(primary_key_id=1)
    entry = keyset.key.add()
    entry.key_id, entry.status, entry.output_prefix_type = 1, tink_pb2.ENABLED, tink_pb2.RAW
    kind = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    entry.key_data.type_url, entry.key_data.value = kind, key.SerializeToString()
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    handle = proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    primitive = handle.primitive(streaming_aead.StreamingAead)
    stream = primitive.new_decrypting_stream(io.BytesIO(stored), envelope.context.encode())
    found: bytes = stream.read()
    return found


def encrypted(
    path: Path, keys: KeyRing, octets: bytes, channels: int = 2
) -> tuple[bytes, Envelope, EncryptedSink]:
    """Write a file, in pieces of all sizes."""
    chance = Random(len(octets))
    data_key, envelope = seal(keys, "t1", "call-1", channels)
    sink = EncryptedSink(FileSink(path), data_key, envelope.context, envelope.segment)
    at = 0
    while at < len(octets):
        size = chance.choice((1, 160, 3200, 9000))
        sink.append(octets[at : at + size])
        at += size
    sink.close()
    return data_key, envelope, sink


def opened(path: Path, data_key: bytes, envelope: Envelope, truncated: bool = False) -> Decrypted:
    stored = path.read_bytes()

    async def fetch(start: int, end: int) -> bytes:
        return stored[start:end]

    return asyncio.run(Decrypted.open(fetch, len(stored), data_key, envelope, truncated))


@pytest.mark.parametrize("channels", CHANNELS)
def test_tink_reads_every_file_that_we_write(
    tmp_path: Path, keyring: KeyRing, channels: int
) -> None:
    segment = SEGMENT_OCTETS * channels
    first, full = segment - 40 - 16, segment - 16
    for octets in (0, 1, first - 1, first, first + 1, first + full, first + full + 1, 100_000):
        plain, path = os.urandom(octets), tmp_path / f"{octets}"
        data_key, envelope, sink = encrypted(path, keyring, plain, channels)
        stored = path.read_bytes()
        assert tink_reads(stored, data_key, envelope) == plain
        assert b"".join(segments(path, data_key, envelope)) == plain
        assert (opened(path, data_key, envelope).size, sink.octets) == (octets, len(stored))


def test_any_octets_are_read_without_the_rest(tmp_path: Path, keyring: KeyRing) -> None:
    plain, path = os.urandom(30_000), tmp_path / "a"
    data_key, envelope, _ = encrypted(path, keyring, plain)
    stored, asked = path.read_bytes(), 0

    async def fetch(start: int, end: int) -> bytes:
        nonlocal asked
        asked += end - start
        return stored[start:end]

    async def read_all() -> None:
        nonlocal asked
        found = await Decrypted.open(fetch, len(stored), data_key, envelope)
        chance = Random(7)
        edges = [0, 1, 4039, 4040, 4041, 8119, 8120, 8121, 29_999, 30_000]
        for start in edges:
            for end in (*edges, 40_000, chance.randrange(30_000)):
                assert await found.read(start, end) == plain[start:end]
        asked = 0
        assert await found.read(12_000, 12_100) == plain[12_000:12_100]
        assert asked == envelope.segment

    asyncio.run(read_all())


def test_what_is_full_is_on_the_disk_at_once_and_nothing_in_clear(
    tmp_path: Path, keyring: KeyRing
) -> None:
    path, plain = tmp_path / "a", b"what they said " * 2000
    data_key, envelope = seal(keyring, "t1", "call-1", 2)
    sink = EncryptedSink(FileSink(path), data_key, envelope.context, envelope.segment)
    for at in range(0, len(plain), 160):
        sink.append(plain[at : at + 160])
        found = b"".join(segments(path, data_key, envelope, truncated=True))
        written = min(at + 160, len(plain))
        assert found == plain[: len(found)] and written - len(found) < 4080
        assert b"what they said" not in path.read_bytes()


def test_a_change_anywhere_is_noticed(tmp_path: Path, keyring: KeyRing) -> None:
    path = tmp_path / "a"
    data_key, envelope, _ = encrypted(path, keyring, os.urandom(9000))
    stored = path.read_bytes()

    def refused(changed: bytes, key: bytes = data_key, by: Envelope = envelope) -> None:
        path.write_bytes(changed)
        with pytest.raises(NotAuthentic):
            b"".join(segments(path, key, by))

    for at in (0, 1, 39, 40, 41, 4095, 4096, 8191, 8192, len(stored) - 1):
        refused(stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :])
    for cut in (0, 39, 40, 56, 4096, 5000, 8192, len(stored) - 1):
        refused(stored[:cut])
    refused(stored + b"\0")
    refused(stored[:4096] + stored[8192:])
    refused(stored[:40] + stored[4096:8192] + stored[40:4096] + stored[8192:])
    refused(stored, os.urandom(32))
    refused(stored, by=Envelope("t1/call-2", envelope.segment, envelope.keys))


@pytest.mark.parametrize("cut", [40, 41, 4095, 4096, 4097, 8192, 10_000])
def test_a_file_that_lacks_its_end_reads_up_to_its_last_full_segment(
    tmp_path: Path, keyring: KeyRing, cut: int
) -> None:
    path, plain = tmp_path / "a", os.urandom(20_000)
    data_key, envelope, _ = encrypted(path, keyring, plain)
    path.write_bytes(path.read_bytes()[:cut])
    expected = plain[: max(0, cut // 4096 * 4080 - 40)]
    assert b"".join(segments(path, data_key, envelope, truncated=True)) == expected
    found = opened(path, data_key, envelope, truncated=True)
    assert (found.whole, found.size) == (False, len(expected))
    with pytest.raises(NotAuthentic):
        opened(path, data_key, envelope)


def test_no_two_recordings_have_a_key_or_a_nonce_in_common(
    tmp_path: Path, keyring: KeyRing
) -> None:
    made = [encrypted(tmp_path / str(n), keyring, b"the same") for n in range(20)]
    assert len({data_key for data_key, _, _ in made}) == 20
    assert len({(tmp_path / str(n)).read_bytes()[:40] for n in range(20)}) == 20


def test_the_envelope_names_the_key_and_the_region_opens_it(keyring: KeyRing) -> None:
    data_key, envelope = seal(keyring, "t1", "call-1", 2)
    assert envelope.context == "t1/call-1" and envelope.segment == 4096
    assert [key.key for key in envelope.keys] == [keyring.listed(["recordings"])[0].id]
    assert not envelope.for_customers and unseal(keyring, envelope) == data_key
    moved = Envelope("t1/call-2", envelope.segment, envelope.keys)
    with pytest.raises(NotAuthentic):
        unseal(keyring, moved)
    with pytest.raises(KeyMissing, match="erased"):
        unseal(keyring, Envelope(envelope.context, envelope.segment, ()))
    broken = WrappedKey(envelope.keys[0].key, "no base64!")
    with pytest.raises(NotAuthentic):
        unseal(keyring, Envelope(envelope.context, envelope.segment, (broken,)))


def test_what_is_for_customers_the_region_cannot_open(tmp_path: Path, keyring: KeyRing) -> None:
    pairs = [PrivateKey.create() for _ in range(2)]
    for n, pair in enumerate(pairs):
        pair.write(tmp_path / f"{n}.json", tmp_path / f"{n}.pub.json")
    public = [str(tmp_path / f"{n}.pub.json") for n in range(2)]
    data_key, envelope = seal(keyring, "t1", "call-1", 2, public)
    assert envelope.for_customers
    with pytest.raises(KeyMissing, match=f"{pairs[0].public.id}.*only the customer can play it"):
        unseal(keyring, envelope)
    for n, key in enumerate(envelope.keys):
        mine = PrivateKey.read(tmp_path / f"{n}.json")
        assert mine.public.id == key.key == CustomerKey.read(public[n]).id
        assert mine.unwrap(octets_of(key), envelope.context) == data_key
        with pytest.raises(NotAuthentic):
            mine.unwrap(octets_of(key), "t1/call-2")
    with pytest.raises(NotAuthentic):
        PrivateKey.create().unwrap(octets_of(envelope.keys[0]), envelope.context)
    assert (tmp_path / "0.json").stat().st_mode & 0o777 == 0o600


def test_a_customers_key_that_is_none_stops_the_recording(tmp_path: Path, keyring: KeyRing) -> None:
    """Never in clear, and never under the region's own key instead."""
    PrivateKey.create().write(tmp_path / "private.json", tmp_path / "public.json")
    (tmp_path / "text.json").write_text("{}")
    region = keyring.directory / "recordings.json"
    for name in ("missing.json", "private.json", "text.json", str(region)):
        for use in (lambda path: check(keyring, [path]), lambda p: seal(keyring, "t", "c", 2, [p])):
            with pytest.raises(KeyMissing, match=Path(name).name):
                use(str(tmp_path / name))
    document = json.loads((tmp_path / "public.json").read_text())
    document["key"][0]["keyData"]["value"] = "AAAA"
    (tmp_path / "public.json").write_text(json.dumps(document))
    with pytest.raises(KeyMissing, match=r"public\.json"):
        check(keyring, [str(tmp_path / "public.json")])


def test_tink_refuses_what_we_refuse(tmp_path: Path, keyring: KeyRing) -> None:
    path = tmp_path / "a"
    data_key, envelope, _ = encrypted(path, keyring, os.urandom(9000))
    with pytest.raises(tink.TinkError):
        tink_reads(path.read_bytes()[:-1], data_key, envelope)
