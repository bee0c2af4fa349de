"""What transcoding costs: calls a core, beside what libopus alone would allow.

    python -m bench.transcode_cost [--calls 120] [--seconds 8] [--rounds 3]

Each call has a voice client that speaks Opus and a trunk that speaks PCMU, both all the time.
CPU is that of the engine's one thread, read by the scheduler's own count, in rounds that
alternate with the same packets passed through. `libopus` decodes and encodes the same frames in
this process, with the engine's settings, and does nothing else. The ratio is of what
transcoding adds to relaying the packets to what libopus costs; the target is 1.10.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import json
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import common
from bench.relay_cost import cpu_ns
from relay.call.ports import LegMedia, MediaAddress, Side
from relay.media.engine import Engine
from relay.probe.audio import Samples, read_wav, resample, speak
from relay.rtp.g711 import PCMU, compress
from relay.sdp.description import Coding

TARGET = 1.10
HOST = "127.5.14.1"
FRAME_S = 0.02
TEXT = "The quick brown fox jumps over the lazy dog, and then it sits down and tells us all of it."
OPUS_TYPE, VOIP = 111, 2048
BITRATE, COMPLEXITY, SIGNAL, FEC, LOSS, VOICE = 4002, 4010, 4024, 4012, 4014, 3001
CODINGS = {
    Side.CALLER: Coding("OPUS", OPUS_TYPE, 48000, fec=True),
    Side.CALLEE: Coding("PCMU", 0, 8000),
}


class Libopus:
    """The library that the engine is linked with, by itself."""

    def __init__(self) -> None:
        found = ctypes.util.find_library("opus")
        if found is None:
            sys.exit("libopus is missing: install libopus-dev and build again")
        self._library = ctypes.CDLL(found)
        for name in ("opus_encoder_create", "opus_decoder_create"):
            getattr(self._library, name).restype = ctypes.c_void_p

    def encoder(self, rate_hz: int) -> ctypes.c_void_p:
        problem = ctypes.c_int()
        made = self._library.opus_encoder_create(rate_hz, 1, VOIP, ctypes.byref(problem))
        encoder = ctypes.c_void_p(made)
        settings = ((BITRATE, 32000), (COMPLEXITY, 5), (SIGNAL, VOICE), (FEC, 1), (LOSS, 10))
        for what, value in settings:
            self._library.opus_encoder_ctl(encoder, what, ctypes.c_int(value))
        return encoder

    def decoder(self) -> ctypes.c_void_p:
        problem = ctypes.c_int()
        return ctypes.c_void_p(self._library.opus_decoder_create(8000, 1, ctypes.byref(problem)))

    def encode(self, encoder: ctypes.c_void_p, frame: bytes, out: Any) -> int:
        return int(self._library.opus_encode(encoder, frame, len(frame) // 2, out, 1276))

    def decode(self, decoder: ctypes.c_void_p, data: bytes, out: Any) -> int:
        return int(self._library.opus_decode(decoder, data, len(data), out, 960, 0))


def speech() -> Samples:
    """Twenty seconds or so, at 8 kHz."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "speech.wav"
        speak(TEXT, "en-gb", path)
        found: Samples = read_wav(path).samples[0]
        return found


def linear(sound: Samples, frame: int) -> list[bytes]:
    samples = (np.clip(sound, -1, 1) * 32767).astype("<i2")
    return [samples[at : at + frame].tobytes() for at in range(0, len(samples) - frame, frame)]


def alone(
    library: Libopus, calls: int, packets: list[bytes], frames: list[bytes], seconds: float
) -> float:
    """Microseconds of CPU that libopus costs for 20 ms of both directions of one call.

    As many calls in turn as the engine has: their states leave the caches the same way.
    """
    states = [(library.decoder(), library.encoder(8000)) for _ in range(calls)]
    out, sound = ctypes.create_string_buffer(1276), (ctypes.c_int16 * 960)()
    count, began = 0, time.thread_time()
    while time.thread_time() - began < seconds:
        at, turn = count % calls, count // calls
        decoder, encoder = states[at]
        library.decode(decoder, packets[(turn + 7 * at) % len(packets)], sound)
        library.encode(encoder, frames[(turn + 7 * at) % len(frames)], out)
        count += 1
    return (time.thread_time() - began) / count * 1e6


def talk(plan: dict[str, Any]) -> None:
    """The generator, a process of its own: every call's packets, spread over 20 ms."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for at, each in enumerate(sockets):
        each.bind((HOST, plan["ports"][at]))
    payloads = [[bytes.fromhex(each) for each in side] for side in plan["payloads"]]
    calls = plan["calls"]
    began = time.monotonic()
    for number in range(int(plan["seconds"] / FRAME_S)):
        for at, ports in enumerate(calls):
            due = began + (number + at / len(calls)) * FRAME_S
            if (wait := due - time.monotonic()) > 0.0005:
                time.sleep(wait)
            for side, (kind, ticks) in enumerate(((OPUS_TYPE, 960), (0, 160))):
                payload = payloads[side][(number + 7 * at) % len(payloads[side])]
                header = struct.pack(
                    "!BBHII", 0x80, kind, number & 0xFFFF, number * ticks, 1000 + at
                )
                sockets[side].sendto(header + payload, (HOST, ports[side]))


def engine_thread() -> int:
    """The kernel's number of the engine's thread."""
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().strip() == "relay-media":
            return int(task.name)
    raise RuntimeError("the engine has no thread")


def round_of(calls: int, seconds: float, payloads: list[list[bytes]], coded: bool) -> float:
    """Microseconds of the engine's CPU for 20 ms of one call."""
    peers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    ports = []
    for peer in peers:
        peer.bind((HOST, 0))
        ports.append(peer.getsockname()[1])
        peer.close()
    engine = Engine(HOST, None, (22000, 22000 + 4 * calls + 8), 1, 60.0)
    engine.start()
    try:
        opened = [engine.open(f"call-{n}", False, False) for n in range(calls)]
        for call in opened:
            for side in Side:
                coding = CODINGS[side]
                call.update(
                    side,
                    LegMedia(
                        remote=MediaAddress(HOST, ports[side.value], ports[side.value] + 1),
                        payload_types=frozenset({0, OPUS_TYPE}),
                        clock_hz=coding.clock_hz,
                        coding=coding if coded else None,
                    ),
                )
        plan = {
            "ports": ports,
            "payloads": [[each.hex() for each in side] for side in payloads],
            "calls": [[call.local(side).port for side in Side] for call in opened],
            "seconds": seconds + 1.5,
        }
        command = [sys.executable, "-m", "bench.transcode_cost", "--talk"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=common.ROOT) as generator:
            generator.communicate(json.dumps(plan).encode())  # ends when all has been said
        spent = cpu_ns(engine_thread())
        frames = sum(call.figures(Side.CALLER).relayed for call in opened)
        return spent / 1000 / frames
    finally:
        engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--talk", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.talk:
        talk(json.load(sys.stdin))
        return
    library, sound = Libopus(), speech()
    wide, out = library.encoder(48000), ctypes.create_string_buffer(1276)
    packets = [
        out.raw[: library.encode(wide, frame, out)]
        for frame in linear(resample(sound, 8000, 48000), 960)
    ]
    frames = linear(sound, 160)
    payloads = [
        packets,
        [
            bytes(compress(int(value), PCMU) for value in np.frombuffer(frame, "<i2"))
            for frame in frames
        ],
    ]
    coded, plain, opus = [], [], []
    for _ in range(options.rounds):
        coded.append(round_of(options.calls, options.seconds, payloads, coded=True))
        plain.append(round_of(options.calls, options.seconds, payloads, coded=False))
        opus.append(alone(library, options.calls, packets, frames, 2.0))
    whole, passed, libopus = (statistics.median(each) for each in (coded, plain, opus))
    ratio = (whole - passed) / libopus
    common.report(
        "transcode_cost",
        calls=options.calls,
        transcoded_us=round(whole, 1),
        passed_us=round(passed, 1),
        libopus_us=round(libopus, 1),
        calls_a_core=round(FRAME_S * 1e6 / whole),
        calls_a_core_of_libopus_alone=round(FRAME_S * 1e6 / libopus),
        whole_ratio=round(whole / libopus, 2),
        ratio=round(ratio, 2),
        target=TARGET,
        ok=ratio <= TARGET,
    )


if __name__ == "__main__":
    main()
