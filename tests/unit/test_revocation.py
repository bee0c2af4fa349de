"""The files of revoked tokens: read at the start and when they change."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pytest

from relay.config import read_revoked
from relay.config.account import MOST_OCTETS
from relay.signalling.revocation import Revocation


class Told:
    def __init__(self) -> None:
        self.lists: list[tuple[str, Collection[str]]] = []

    def __call__(self, account: str, ids: Collection[str]) -> None:
        self.lists.append((account, ids))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "revoked.txt"
    path.write_text("# lost phones\nt1\n\n  t2  \r\n#t3\n")
    return path


def test_one_id_a_line(file: Path) -> None:
    assert read_revoked(str(file)) == {"t1", "t2"}


def test_an_empty_file_revokes_nothing(file: Path) -> None:
    file.write_text("")
    assert read_revoked(str(file)) == frozenset()


def test_it_is_told_at_the_start_and_at_each_change(file: Path) -> None:
    told = Told()
    watching = Revocation({"app": str(file)}, told)
    watching.look()
    watching.look()
    assert told.lists == [("app", {"t1", "t2"})]
    file.write_text("t9\n")
    watching.look()
    assert told.lists[1:] == [("app", {"t9"})]


def test_a_file_that_was_moved_there_is_seen_though_it_looks_alike(file: Path) -> None:
    told = Told()
    watching = Revocation({"app": str(file)}, told)
    watching.look()
    stamp = os.stat(file)
    other = file.with_suffix(".new")
    other.write_text(file.read_text().replace("t1", "t7"))
    os.utime(other, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    other.rename(file)
    watching.look()
    assert told.lists[-1] == ("app", {"t7", "t2"})


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"x" * (MOST_OCTETS + 1)])
def test_a_file_that_cannot_be_read_leaves_what_was_read(file: Path, content: bytes | None) -> None:
    told = Told()
    watching = Revocation({"app": str(file)}, told)
    watching.look()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    watching.look()
    watching.look()
    assert len(told.lists) == 1
    file.write_text("t4\n")
    watching.look()
    assert told.lists[-1] == ("app", {"t4"})


def test_each_account_has_its_own(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("x1\n")
    told = Told()
    Revocation({"app": str(file), "other": str(other)}, told).look()
    assert dict(told.lists) == {"app": {"t1", "t2"}, "other": {"x1"}}
