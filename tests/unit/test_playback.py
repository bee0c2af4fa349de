"""Recordings as they are heard: formats, ranges and the silence around them."""

from __future__ import annotations

import asyncio
import io
import math

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import TooLong
from relay.recording import playback, wav
from relay.recording.formats import Format, linear
from relay.recording.playback import Sound, play
from relay.rtp.g711 import PCMA, PCMU, SILENCE, compress

LAWS = {"PCMU": PCMU, "PCMA": PCMA}


class InMemory:
    """The container of a recording, in clear; remembers how much of it was read."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.taken = self.most = 0

    @property
    def size(self) -> int:
        return len(self.octets)

    async def read(self, start: int, end: int) -> bytes:
        assert 0 <= start <= end <= self.size
        self.taken += end - start
        self.most = max(self.most, end - start)
        return self.octets[start:end]


def tone(codec: str, frames: int) -> bytes:
    """A tone of 400 Hz, loud enough for anybody."""
    law = LAWS[codec]
    period = [compress(int(8000 * math.sin(at * math.pi / 10)), law) for at in range(20)]
    return bytes(period[at % 20] for at in range(frames))


def stored(octets: bytes, codec: str, channels: int) -> InMemory:
    """As the recorder leaves it: the header does not know the size."""
    return InMemory(wav.header(codec, channels, None) + octets)


def played(octets: bytes, codec: str, channels: int, form: Format, trimmed: bool = False) -> bytes:
    async def whole() -> bytes:
        source = stored(octets, codec, channels)
        found = await play(Sound.of(source, codec, channels), form, trimmed)
        everything = await found.read(0, found.size)
        assert len(everything) == found.size
        return everything

    return asyncio.run(whole())


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("form", [Format.WAV, Format.PCM, Format.FLAC])
def test_every_lossless_format_has_the_samples_that_were_recorded(
    codec: str, channels: int, form: Format
) -> None:
    octets = tone(codec, 8001 * channels)
    samples, rate_hz = soundfile.read(
        io.BytesIO(played(octets, codec, channels, form)), dtype="int16", always_2d=True
    )
    assert rate_hz == 8000
    assert np.array_equal(samples, linear(octets, codec).reshape(-1, channels))


def test_ogg_opus_sounds_like_what_was_recorded() -> None:
    octets = tone("PCMU", 16000)
    made = played(octets, "PCMU", 1, Format.OGG)
    assert made[:4] == b"OggS" and b"OpusHead" in made[:64]
    samples, rate_hz = soundfile.read(io.BytesIO(made), dtype="float32")
    assert rate_hz == 8000 and len(samples) == 16000
    spectrum = np.abs(np.fft.rfft(samples[4000:12000]))
    assert abs(int(spectrum.argmax()) - 400) <= 1  # 1 Hz a bin


@given(
    frames=st.integers(0, 50),
    channels=st.sampled_from([1, 2]),
    form=st.sampled_from([Format.WAV, Format.PCM]),
    bounds=st.tuples(st.integers(0, 300), st.integers(0, 300)),
)
@settings(max_examples=200, deadline=None)
def test_a_part_is_what_the_whole_has_there(
    frames: int, channels: int, form: Format, bounds: tuple[int, int]
) -> None:
    octets = bytes(at * 7 % 256 for at in range(frames * channels))
    whole = played(octets, "PCMA", channels, form)
    start, end = sorted(bounds)

    async def part() -> bytes:
        sound = Sound.of(stored(octets, "PCMA", channels), "PCMA", channels)
        return await (await play(sound, form)).read(start, end)

    assert asyncio.run(part()) == whole[start:end]


def test_a_part_of_a_long_recording_costs_no_more_than_the_part() -> None:
    source = stored(bytes(16000 * 600), "PCMU", 2)

    async def tail() -> bytes:
        found = await play(Sound.of(source, "PCMU", 2), Format.PCM)
        return await found.read(found.size - 1000, found.size)

    assert len(asyncio.run(tail())) == 1000
    assert source.taken <= 502


def test_half_a_frame_that_a_crash_left_is_not_played() -> None:
    whole = played(tone("PCMU", 401), "PCMU", 2, Format.WAV)
    assert soundfile.info(io.BytesIO(whole)).frames == 200


def test_a_recording_without_audio_is_a_file_all_the_same() -> None:
    for form in (Format.WAV, Format.PCM, Format.FLAC, Format.OGG):
        made = played(b"", "PCMU", 2, form)
        assert soundfile.info(io.BytesIO(made)).frames <= 1, form


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_silence_before_and_after_is_left_out_but_not_within(codec: str) -> None:
    quiet = bytes([SILENCE[LAWS[codec]]])
    caller = quiet * 16000 + tone(codec, 8000) + quiet * 32000
    callee = quiet * 40000 + tone(codec, 8000) + quiet * 8000
    both = bytes(octet for pair in zip(caller, callee, strict=True) for octet in pair)
    made = played(both, codec, 2, Format.WAV, trimmed=True)
    info = soundfile.info(io.BytesIO(made))
    assert info.frames == 32000 + 2 * 1600  # from the caller's tone to the end of the callee's


def test_silence_alone_stays_as_it_is() -> None:
    made = played(bytes([0xFF]) * 24000, "PCMU", 1, Format.WAV, trimmed=True)
    assert soundfile.info(io.BytesIO(made)).frames == 24000


def test_what_is_too_long_to_be_made_in_memory_says_what_to_ask_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(playback.LONGEST_S, Format.FLAC, 1)
    with pytest.raises(TooLong, match="ask for wav"):
        played(bytes(8001), "PCMU", 1, Format.FLAC)
    assert len(played(bytes(8002), "PCMU", 1, Format.WAV)) == wav.HEADER_OCTETS + 8002


def test_what_is_made_whole_is_decrypted_in_parts() -> None:
    """An hour at once would hold up the calls' signalling for a quarter of a second."""
    source = stored(tone("PCMA", 3 * playback.SCANNED), "PCMA", 1)
    asyncio.run(play(Sound.of(source, "PCMA", 1), Format.FLAC))
    assert source.taken >= 3 * playback.SCANNED and source.most <= playback.SCANNED
