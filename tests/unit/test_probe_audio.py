"""The probe's ears: they must hear what is there, and not what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relay.probe.audio import (
    Audio,
    ProbeError,
    Samples,
    decode_g711,
    read_wav,
    resample,
    similarity,
    speak,
    write_wav,
)  # fmt: skip
from relay.probe.waveform import envelope, waveform_png
from relay.recording.sink import FileSink
from relay.recording.wav import WavFile
from relay.rtp import g711

WORDS = "The quick brown fox jumps over the lazy dog, while the train leaves for the coast."
OTHER = "Please hold the line, somebody will be with you as soon as one of us is free again."


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Samples]:
    folder = tmp_path_factory.mktemp("speech")
    spoken = {}
    for name, text, voice in [
        ("words", WORDS, "en-gb"), ("other", OTHER, "en-us+f3"), ("same voice", OTHER, "en-gb"),
        ("same words", WORDS, "en-us+f3"),
    ]:  # fmt: skip
        speak(text, voice, folder / "speech.wav")
        audio = read_wav(folder / "speech.wav")
        assert audio.rate_hz == 8000
        assert audio.duration_s > 3
        spoken[name] = audio.samples[0]
    return spoken


def over_g711(samples: Samples, law: int = 0) -> Samples:
    linear = (samples * 32767).astype(int)
    return decode_g711(bytes(g711.compress(int(s), law) for s in linear), law)


@pytest.mark.parametrize("law", [0, 8])
def test_the_same_speech_over_g711_delayed_and_quieter(
    speech: dict[str, Samples], law: int
) -> None:
    source = speech["words"]
    heard = np.concatenate([np.zeros(1234, np.float32), over_g711(source * 0.5, law)])
    assert similarity(heard, source) > 0.95


@pytest.mark.parametrize("other", ["other", "same voice", "same words"])
def test_other_speech_is_not_similar(speech: dict[str, Samples], other: str) -> None:
    assert similarity(over_g711(speech[other]), speech["words"]) < 0.5


def test_noise_and_silence_are_not_similar(speech: dict[str, Samples]) -> None:
    noise = np.random.default_rng(1).normal(0, 0.2, 60_000).astype(np.float32)
    assert similarity(noise, speech["words"]) < 0.2
    assert similarity(np.zeros(60_000, np.float32), speech["words"]) == 0
    assert similarity(np.zeros(0, np.float32), speech["words"]) == 0
    assert similarity(speech["words"], np.zeros(60_000, np.float32)) == 0
    assert similarity(noise * 1e-6, speech["words"]) < 0.2


def test_shifts_of_a_jitter_buffer_are_forgiven(speech: dict[str, Samples]) -> None:
    """20 ms are dropped here and inserted there, each second another time."""
    source = speech["words"]
    parts: list[Samples] = []
    for number, at in enumerate(range(0, source.size, 8000)):
        part = source[at : at + 8000]
        parts.append(part[160:] if number % 2 else np.pad(part, (480, 0)))
    assert similarity(np.concatenate(parts), source) > 0.85


def test_half_of_the_speech_missing_shows(speech: dict[str, Samples]) -> None:
    source = speech["words"]
    heard = source.copy()
    heard[source.size // 2 :] = 0
    assert 0.3 < similarity(heard, source) < 0.7
    assert similarity(source[: source.size // 2], source) < 0.75


def test_files_are_compared_at_any_rate(speech: dict[str, Samples], tmp_path: Path) -> None:
    source = speech["words"]
    write_wav(tmp_path / "heard.wav", resample(source, 8000, 16000), 16000)
    write_wav(tmp_path / "source.wav", source)
    assert similarity(tmp_path / "heard.wav", tmp_path / "source.wav") > 0.95


def test_a_wav_of_sixteen_bits_comes_back(tmp_path: Path) -> None:
    samples = np.linspace(-1, 1, 1001, dtype=np.float32)
    write_wav(tmp_path / "a.wav", samples, 16000)
    audio = read_wav(tmp_path / "a.wav")
    assert audio.rate_hz == 16000
    assert np.abs(audio.samples[0] - samples).max() <= 1 / 32768 + 1e-6


@pytest.mark.parametrize("closed", [True, False])
def test_a_recording_is_read_also_while_it_is_open(tmp_path: Path, closed: bool) -> None:
    wav = WavFile(FileSink(tmp_path / "a.wav"), "PCMA", 2)
    wav.write(bytes([0xD5, 0xAA]) * 800)
    if closed:
        wav.close()
    audio = read_wav(tmp_path / "a.wav")
    assert audio.samples.shape == (2, 800)
    assert audio.samples[0].max() == pytest.approx(8 / 32768)
    assert audio.samples[1].min() == pytest.approx(32256 / 32768)


@pytest.mark.parametrize("octets", [b"", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0"])
def test_what_is_no_wav_is_said(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(octets)
    with pytest.raises(ProbeError, match=r"a\.wav"):
        read_wav(tmp_path / "a.wav")


def test_resampling_keeps_a_tone_and_removes_what_does_not_fit() -> None:
    time_s = np.arange(22050) / 22050
    low = np.sin(2 * np.pi * 440 * time_s).astype(np.float32)
    high = np.sin(2 * np.pi * 9000 * time_s).astype(np.float32)
    out = resample(low + high, 22050, 8000)
    expected = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    assert out.size == 8000
    assert np.abs(out[100:-100] - expected[100:-100]).max() < 0.02


def test_missing_and_silent_speech_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProbeError, match="said nothing"):
        speak("", "en-gb", tmp_path / "a.wav")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProbeError, match="apt-get install espeak-ng"):
        speak("hello", "en-gb", tmp_path / "a.wav")
    assert list(tmp_path.iterdir()) == []


def test_the_picture_shows_who_speaks_when(tmp_path: Path) -> None:
    wav = WavFile(FileSink(tmp_path / "a.wav"), "PCMU", 2)
    loud, silent = g711.compress(20000, 0), 0xFF
    wav.write(bytes([loud, silent]) * 8000 + bytes([silent, loud]) * 8000)
    wav.close()
    waveform_png(read_wav(tmp_path / "a.wav"), tmp_path / "a.png", "A call", ["caller", "callee"])
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (1200, 448)
        pixels = np.asarray(image.convert("L"), float)
    upper, lower = pixels[64 + 20 : 64 + 70], pixels[64 + 190 : 64 + 240]
    first, second = slice(180, 640), slice(680, 1160)
    assert upper[:, first].mean() < 150 < upper[:, second].mean()
    assert lower[:, second].mean() < 150 < lower[:, first].mean()


def test_the_picture_of_an_empty_recording(tmp_path: Path) -> None:
    WavFile(FileSink(tmp_path / "a.wav"), "PCMU", 1).close()
    waveform_png(read_wav(tmp_path / "a.wav"), tmp_path / "a.png", "Nothing", [])
    assert (tmp_path / "a.png").exists()


def test_the_envelope_has_peak_and_loudness() -> None:
    peaks, loudness = envelope(np.array([0, 0, 1, -1, 0.5, 0], np.float32), 3)
    assert peaks.tolist() == [0, 1, 0.5]
    assert loudness.tolist() == pytest.approx([0, 1, (0.25 / 2) ** 0.5])


def test_the_duration_counts_frames_not_samples() -> None:
    assert Audio(8000, np.zeros((2, 4000), np.float32)).duration_s == 0.5
