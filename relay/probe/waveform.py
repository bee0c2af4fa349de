"""A picture of a recording: one band a channel, dark on light, over a time axis."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from relay.probe.wav_file import Audio, Samples

WIDTH, BAND, HEAD, AXIS = 1200, 170, 64, 44
LEFT, RIGHT = 150, 28
SCALE = 2  # drawn twice as large, then reduced: smooth edges

PAPER, INK, FAINT, GRID = "#ffffff", "#1f2733", "#6b7685", "#e4e8ee"
COLOURS = (("#a9c7ea", "#1f5fa8"), ("#f0c3a0", "#b4541a"))  # peaks and loudness
STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)


def waveform_png(audio: Audio, png_path: Path, title: str, labels: Sequence[str]) -> None:
    """Draw a sound. `labels` names its channels from left to right.

    Raises OSError.
    """
    channels = audio.samples.shape[0]
    size = (WIDTH * SCALE, (HEAD + BAND * channels + AXIS) * SCALE)
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    _text(draw, (LEFT, HEAD / 2), title, INK, 20, "lm")
    _text(draw, (WIDTH - RIGHT, HEAD / 2), _clock(audio.duration_s), FAINT, 14, "rm")
    _time_axis(draw, audio.duration_s, channels)
    for number in range(channels):
        label = labels[number] if number < len(labels) else f"channel {number + 1}"
        _band(draw, audio, number, label)
    image.resize((size[0] // SCALE, size[1] // SCALE), Image.Resampling.LANCZOS).save(png_path)


def envelope(samples: Samples, columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The peak and the root mean square of each of `columns` equal parts."""
    edges = np.linspace(0, samples.size, columns + 1).astype(int)
    parts = [samples[a:b].astype(np.float64) for a, b in pairwise(edges)]
    peaks = np.array([np.max(np.abs(part), initial=0) for part in parts])
    loudness = np.array([np.sqrt(np.mean(part**2)) if part.size else 0.0 for part in parts])
    return peaks, loudness


def _band(draw: ImageDraw.ImageDraw, audio: Audio, number: int, label: str) -> None:
    middle = HEAD + BAND * number + BAND / 2
    peak_colour, loudness_colour = COLOURS[number % len(COLOURS)]
    columns = WIDTH - LEFT - RIGHT
    peaks, loudness = envelope(audio.samples[number], columns)
    # One scale for all channels, so that a quiet side looks quiet.
    full = max(float(np.max(np.abs(audio.samples), initial=0)), 0.05)
    for heights, colour in ((peaks, peak_colour), (loudness, loudness_colour)):
        for column, height in enumerate(heights / full * (BAND / 2 - 12) * SCALE):
            x = (LEFT + column) * SCALE
            box = (x, middle * SCALE - height, x + SCALE - 1, middle * SCALE + height)
            draw.rectangle(box, fill=colour)
    _line(draw, (LEFT, middle), (WIDTH - RIGHT, middle), loudness_colour)
    _text(draw, (LEFT - 14, middle), label, loudness_colour, 16, "rm")


def _time_axis(draw: ImageDraw.ImageDraw, duration_s: float, channels: int) -> None:
    bottom = HEAD + BAND * channels
    width = WIDTH - LEFT - RIGHT
    step = next((s for s in STEPS_S if duration_s / s <= 14), STEPS_S[-1])
    _line(draw, (LEFT, bottom), (WIDTH - RIGHT, bottom), FAINT)
    for number in range(int(duration_s / step + 1e-9) + 1):
        x = LEFT + width * (number * step / duration_s if duration_s else 0)
        _line(draw, (x, HEAD), (x, bottom), GRID)
        _text(draw, (x, bottom + 10), _clock(number * step), FAINT, 13, "mt")


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _line(
    draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], colour: str
) -> None:
    points = (start[0] * SCALE, start[1] * SCALE, end[0] * SCALE, end[1] * SCALE)
    draw.line(points, fill=colour, width=SCALE)


def _text(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    colour: str,
    size: int,
    anchor: str,
) -> None:
    font = ImageFont.load_default(size * SCALE)
    draw.text((at[0] * SCALE, at[1] * SCALE), text, fill=colour, font=font, anchor=anchor)
