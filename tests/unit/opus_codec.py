"""Opus by FFmpeg's libopus, for the tests of transcoding."""

from __future__ import annotations

import fractions
from typing import Any

import av
import numpy as np

from relay.probe.audio import RATE_HZ, Samples, resample

OPUS_HZ = 48000
FRAME = OPUS_HZ // 50


def tune(seconds: float) -> Samples:
    """A voice-like sound whose pitch and loudness never repeat, so that a shift shows."""
    at = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    pitch = 170 + 40 * np.sin(2 * np.pi * 0.37 * at) + 8 * np.sin(2 * np.pi * 0.3 * at * at)
    phase = np.cumsum(pitch) / RATE_HZ
    sound = sum(np.sin(2 * np.pi * n * phase) / n for n in range(1, 9))
    return (0.15 * sound * (0.6 + 0.4 * np.sin(2 * np.pi * 1.7 * at))).astype(np.float32)


def encode(sound: Samples, **options: str) -> list[bytes]:
    """Packets of 20 ms; `options` are FFmpeg's, such as fec, packet_loss, dtx."""
    codec: Any = av.CodecContext.create("libopus", "w")
    codec.bit_rate, codec.format, codec.layout = 32000, "s16", "mono"
    codec.sample_rate, codec.time_base = OPUS_HZ, fractions.Fraction(1, OPUS_HZ)
    codec.options = {"application": "voip", **options}
    wide = resample(sound, RATE_HZ, OPUS_HZ)
    whole = (np.clip(wide, -1, 1) * 32767).astype(np.int16)
    packets = []
    for at in range(0, len(whole) - FRAME + 1, FRAME):
        frame = av.AudioFrame.from_ndarray(whole[None, at : at + FRAME], "s16", "mono")
        frame.sample_rate, frame.pts = OPUS_HZ, at
        packets += [bytes(packet) for packet in codec.encode(frame)]
    return packets


def decode(packets: list[bytes]) -> Samples:
    """What a peer hears of them, at 8 kHz."""
    codec: Any = av.CodecContext.create("libopus", "r")
    codec.format, codec.layout, codec.sample_rate = "s16", "mono", OPUS_HZ
    heard = [
        frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0]
        for packet in packets
        for frame in codec.decode(av.Packet(packet))
    ]
    wide = np.concatenate(heard).astype(np.float32) / 32768
    return resample(wide, OPUS_HZ, RATE_HZ)
