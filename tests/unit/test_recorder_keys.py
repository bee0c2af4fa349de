"""A recorder whose keys change while it runs: no key, no recording; never another key, nor none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.call.ports import RecordingEnded, RecordingSpec, Side
from relay.errors import KeyMissing
from relay.keys.customer import PrivateKey
from relay.keys.ring import KeyRing
from relay.keys.state import KeyState
from relay.recording import ledger
from relay.recording.decryption import segments, wav_of
from relay.recording.envelope import octets_of
from relay.recording.repair import repair_all
from relay.recording.wav import HEADER_OCTETS, completed
from tests.unit.media_rig import until
from tests.unit.test_recorder import DEADLINE_S, STARTED, Bench

AUDIO = b"\x01\x02" * 16_000


class Watched(Bench):
    """Knows whether the writer's thread has begun."""

    def __init__(self, directory: Path, keys: KeyRing) -> None:
        super().__init__(directory, keys)
        self._directory = directory
        self.tap = 0

    def opened(self) -> bool:
        return any(self._directory.rglob(f"*{ledger.OPEN_SUFFIX}"))


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    """Keys that the test may change."""
    return KeyRing.create(tmp_path / "keys")[0]


@pytest.fixture
def bench(tmp_path: Path, ring: KeyRing) -> Iterator[Watched]:
    bench = Watched(tmp_path / "spool", ring)
    yield bench
    assert bench.recorder.close(DEADLINE_S)


def recorded(
    bench: Watched,
    call_id: str,
    customer_keys: tuple[str, ...] = (),
    during: Callable[[], object] = lambda: None,
) -> RecordingEnded:
    """Two seconds; something happens after the first one."""
    bench.tap, bench.sent = bench.tap + 1, {Side.CALLER: 0, Side.CALLEE: 0}
    spec = RecordingSpec(call_id, bench.tap, "PCMU", True, STARTED, customer_keys=customer_keys)
    bench.recorder.start(spec)
    bench.talk(50, bench.tap)
    until(lambda: bench.opened() or not bench.events.empty())
    during()
    bench.talk(50, bench.tap)
    bench.stop(call_id)
    return bench.ended()


def test_the_record_of_a_recording_names_its_key_and_its_digest(
    bench: Watched, ring: KeyRing
) -> None:
    event = recorded(bench, "c1")
    stored = Path(event.path).read_bytes()
    record = event.record
    assert record is not None
    assert record.id == "c1" and record.object == "2026/07/03/140509-c1.rec"
    assert record.keys == (ring.listed(["recordings"])[0].id,)
    assert record.sha256 == hashlib.sha256(stored).hexdigest()
    assert (record.octets, record.complete, record.problem) == (len(stored), True, "")
    assert (record.relayed, record.recorded, record.duration_s) == (200, 200, 2.0)
    assert b"RIFF" not in stored and b"\x01\x02\x01\x02" not in stored


@pytest.mark.parametrize("when", ["before", "during"])
def test_without_a_key_there_is_no_recording(
    bench: Watched, ring: KeyRing, tmp_path: Path, when: str
) -> None:
    """One that runs has its data key; one that begins needs the region's."""
    path = ring.directory / "recordings.json"
    kept = path.read_bytes()
    if when == "during":
        event = recorded(bench, "c1", during=path.unlink)
        assert event.problem is None
    else:
        path.unlink()
    event = recorded(bench, "c2")
    assert event.problem is not None and "recordings.json: No such file" in event.problem
    assert event.path == "" and event.record is not None and not event.record.complete
    assert event.record.keys == () and "recordings.json" in bench.recorder.obstacle(())
    assert len(list((tmp_path / "spool").rglob("*.rec"))) == (1 if when == "during" else 0)
    path.write_bytes(kept)
    path.chmod(0o600)
    assert bench.recorder.obstacle(()) == ""
    event = recorded(bench, "c3")
    assert wav_of(Path(event.path), ring)[HEADER_OCTETS:] == AUDIO


@pytest.mark.parametrize("purpose", ["personal", "index"])
def test_what_could_not_be_found_again_to_be_erased_is_not_recorded(
    bench: Watched, ring: KeyRing, purpose: str
) -> None:
    (ring.directory / f"{purpose}.json").unlink()
    problem = recorded(bench, "c1").problem
    assert problem is not None and f"{purpose}.json: No such file" in problem
    assert f"{purpose}.json" in bench.recorder.obstacle(())


def test_a_customers_key_that_anybody_may_replace_is_not_used(
    bench: Watched, tmp_path: Path
) -> None:
    PrivateKey.create().write(tmp_path / "acme.json", tmp_path / "acme.pub.json")
    (tmp_path / "acme.pub.json").chmod(0o666)
    obstacle = bench.recorder.obstacle((str(tmp_path / "acme.pub.json"),))
    assert "anybody may put their own key there" in obstacle


def test_a_key_that_others_may_read_is_not_used(bench: Watched, ring: KeyRing) -> None:
    (ring.directory / "recordings.json").chmod(0o644)
    problem = recorded(bench, "c1").problem
    assert problem is not None and "others may read it" in problem


def test_a_rotation_while_it_runs_is_for_what_begins_after_it(
    bench: Watched, ring: KeyRing
) -> None:
    first = recorded(bench, "c1", during=lambda: ring.rotate("recordings"))
    second = recorded(bench, "c2")
    old, new = (event.record.keys[0] for event in (first, second) if event.record)
    assert [key.id for key in ring.listed(["recordings"])] == [old, new]
    for event in (first, second):
        assert wav_of(Path(event.path), ring)[HEADER_OCTETS:] == AUDIO
    ring.change(old, KeyState.RETIRED)
    with pytest.raises(KeyMissing, match=f"{old}.*retired"):
        wav_of(Path(first.path), ring)
    assert wav_of(Path(second.path), ring)[HEADER_OCTETS:] == AUDIO


def test_a_customers_recording_is_the_customers_alone(
    bench: Watched, ring: KeyRing, tmp_path: Path
) -> None:
    public = tmp_path / "acme.pub.json"
    mine = PrivateKey.create()
    mine.write(tmp_path / "acme.json", public)
    event = recorded(bench, "c1", (str(public),))
    assert event.problem is None and event.record is not None
    assert event.record.keys == (mine.public.id,)
    with pytest.raises(KeyMissing, match="only the customer can play it"):
        wav_of(Path(event.path), ring)
    envelope = ledger.of(Path(event.path)).envelope
    assert envelope is not None
    data_key = mine.unwrap(octets_of(envelope.keys[0]), envelope.context)
    found = completed(b"".join(segments(Path(event.path), data_key, envelope)))
    assert found[HEADER_OCTETS:] == AUDIO
    public.unlink()
    event = recorded(bench, "c2", (str(public),))
    assert (
        event.problem == f"nothing is recorded: {public}: No such file or directory"
        and event.path == ""
    )


def left_open(directory: Path, keys: KeyRing, customer_keys: tuple[str, ...] = ()) -> Path:
    """A recording as a crash leaves it."""
    bench = Watched(directory, keys)
    event = recorded(bench, "c1", customer_keys)
    path = Path(event.path)
    entry = ledger.of(path)
    entry.ended, entry.sealed, entry.sha256, entry.octets = None, False, "", 0
    path.with_suffix(".json").unlink()
    ledger.begin(path, entry)
    os.truncate(path, path.stat().st_size - 1000)
    assert bench.recorder.close(DEADLINE_S)
    return path


def test_what_was_left_open_waits_for_its_key(tmp_path: Path, ring: KeyRing) -> None:
    path = left_open(tmp_path / "spool", ring)
    before, file = path.read_bytes(), ring.directory / "recordings.json"
    file.rename(tmp_path / "away")
    (found,) = repair_all(tmp_path / "spool", ring)
    assert found.problem.startswith("interrupted, not repaired") and "recordings.json" in (
        found.problem
    )
    assert path.read_bytes() == before and ledger.open_path(path).exists()
    (tmp_path / "away").rename(file)
    (found,) = repair_all(tmp_path / "spool", ring)
    assert found.problem == "interrupted" and ledger.of(path).sealed
    assert AUDIO.startswith(wav_of(path, ring)[HEADER_OCTETS:])


def test_what_a_customer_alone_can_open_is_left_as_it_is(tmp_path: Path, ring: KeyRing) -> None:
    public = tmp_path / "acme.pub.json"
    mine = PrivateKey.create()
    mine.write(tmp_path / "acme.json", public)
    path = left_open(tmp_path / "spool", ring, (str(public),))
    before = path.read_bytes()
    (found,) = repair_all(tmp_path / "spool", ring)
    entry = ledger.of(path)
    assert found.problem == "interrupted" and path.read_bytes() == before
    assert not entry.sealed and entry.sha256 == hashlib.sha256(before).hexdigest()
    assert entry.envelope is not None
    data_key = mine.unwrap(octets_of(entry.envelope.keys[0]), entry.envelope.context)
    audio = b"".join(segments(path, data_key, entry.envelope, truncated=True))[HEADER_OCTETS:]
    assert AUDIO.startswith(audio) and found.duration_s == len(audio) / 16_000 > 1.5


def test_what_another_process_writes_is_not_repaired(tmp_path: Path, ring: KeyRing) -> None:
    bench = Watched(tmp_path / "spool", ring)

    def repair() -> None:
        assert repair_all(tmp_path / "spool", ring) == []

    event = recorded(bench, "c1", during=repair)
    assert bench.recorder.close(DEADLINE_S) and event.problem is None
    assert wav_of(Path(event.path), ring)[HEADER_OCTETS:] == AUDIO
