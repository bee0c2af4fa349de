"""The WAV container: right headers, readable while open, completed by who reads it."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from relay.recording.sink import FileSink
from relay.recording.wav import HEADER_OCTETS, WavFile, completed, frames, header


def fields(octets: bytes) -> dict[str, int]:
    """The sizes and the format as a reader that walks the chunks sees them."""
    assert octets[:4] == b"RIFF"
    assert octets[8:12] == b"WAVE"
    found = {"riff": struct.unpack("<I", octets[4:8])[0], "total": len(octets)}
    at = 12
    while at + 8 <= len(octets):
        name, size = struct.unpack("<4sI", octets[at : at + 8])
        if name == b"fmt ":
            tag, channels, rate, octet_rate, align, bits = struct.unpack(
                "<HHIIHH", octets[at + 8 : at + 24]
            )
            found |= {"tag": tag, "channels": channels, "rate": rate, "bits": bits}
            assert (octet_rate, align) == (rate * channels, channels)
        elif name == b"fact":
            found["frames"] = struct.unpack("<I", octets[at + 8 : at + 12])[0]
        elif name == b"data":
            found["data"] = size
        at += 8 + size + size % 2
    return found


@pytest.mark.parametrize(("codec", "tag"), [("PCMU", 7), ("PCMA", 6)])
@pytest.mark.parametrize(("channels", "octets"), [(2, 1000), (2, 1001), (1, 1000), (1, 1001)])
def test_a_stored_file_is_completed_with_true_sizes(
    tmp_path: Path, codec: str, tag: int, channels: int, octets: int
) -> None:
    path = tmp_path / "a.wav"
    wav = WavFile(FileSink(path), codec, channels)
    wav.write(bytes(octets - 400))
    wav.write(bytes(400))
    wav.close()
    assert path.read_bytes() == header(codec, channels, None) + bytes(octets)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    count = octets // channels
    assert frames(path.stat().st_size, channels) == count
    data = count * channels
    total = HEADER_OCTETS + data + data % 2
    assert fields(completed(path.read_bytes())) == {
        "tag": tag, "channels": channels, "rate": 8000, "bits": 8, "total": total,
        "riff": total - 8, "frames": count, "data": data,
    }  # fmt: skip


def test_other_files_are_not_completed() -> None:
    for octets in (b"", b"RIFF", b"\0" * 100, header("PCMU", 2, None).replace(b"fact", b"junk")):
        with pytest.raises(ValueError, match="recording"):
            completed(octets)


def test_sox_reads_a_closed_and_an_open_file(tmp_path: Path) -> None:
    sox = shutil.which("sox")
    assert sox, "this test needs sox (apt install sox)"
    closed, still_open = tmp_path / "closed.wav", tmp_path / "open.wav"
    for path in (closed, still_open):
        wav = WavFile(FileSink(path), "PCMA", 2)
        wav.write(bytes([0xD5, 0x35]) * 8000)
        wav.close()
        if path == closed:
            path.write_bytes(completed(path.read_bytes()))
    for path in (closed, still_open):
        command = [sox, str(path), "-t", "raw", "-e", "a-law", "-b", "8", "-"]
        done = subprocess.run(command, capture_output=True, timeout=30, check=True)
        assert done.stdout == bytes([0xD5, 0x35]) * 8000


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        FileSink(path)
    assert path.read_bytes() == b"precious"


def test_a_full_device_raises() -> None:
    sink = object.__new__(FileSink)
    sink._fd, sink._size = os.open("/dev/full", os.O_WRONLY), 0
    with pytest.raises(OSError, match="No space left"):
        sink.append(b"x")
    sink.close()
