"""TLS connections set up per second, and what one costs, alternating with Kamailio.

    python -m bench.tls_setup [--connections 2000] [--at-once 16] [--rounds 2] [--only relay]

Each connection is a full handshake (no resumption) with an ECDSA P-256 certificate, a CRLF
ping and its pong, then closed; a few at a time, as fast as they come. CPU is that of the
process and its children. The generator's CPU says whether it was the one that gave out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import uvloop

from bench import common
from relay.probe.region import RegionSpec, TrunkSpec
from relay.probe.relay_process import RelayProcess

HERE = ("127.5.11.1", 5061)
CALLER = "127.5.11.2"
WARM_UP = 100
DEADLINE_S = 30.0
PING, PONG = b"\r\n\r\n", b"\r\n"

KAMAILIO = """
#!KAMAILIO
debug=0
log_stderror=yes
children=1
tcp_children=1
auto_aliases=no
enable_tls=yes
tcp_max_connections=4096
tls_max_connections=4096
listen=tls:{host}:{port}
loadmodule "sl.so"
loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "certificate", "{certificate}")
modparam("tls", "private_key", "{key}")
modparam("tls", "verify_certificate", 0)
modparam("tls", "require_certificate", 0)
request_route {{
    sl_send_reply("404", "Not here");
}}
"""


def make_pair(directory: Path) -> tuple[Path, Path]:
    """A certificate that vouches for itself, and its key."""
    certificate, key = directory / "bench.pem", directory / "bench.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=bench", "-keyout", str(key)),
            *("-addext", f"subjectAltName=IP:{HERE[0]}", "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@contextlib.contextmanager
def relay(certificate: Path, key: Path) -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as directory:
        scratch = Path(directory)
        region = RegionSpec(
            HERE[0],
            5060,
            (TrunkSpec("pbx", CALLER, 5080, to="pbx"),),
            scratch / "store",
            listen=(f"tls:{HERE[0]}:{HERE[1]}",),
            sip={"tls": {"certificate": str(certificate), "key": str(key)}},
        )
        process = RelayProcess(region.write(scratch / "relay.toml"), scratch / "relay.log")
        try:
            process.wait("serving")
            yield process.pid
        finally:
            process.stop()
        if "Traceback" in process.log.read_text():
            raise RuntimeError(process.tail())


@contextlib.contextmanager
def kamailio(certificate: Path, key: Path) -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="relay-kamailio-") as directory:
        config, log = Path(directory) / "kamailio.cfg", Path(directory) / "log"
        text = KAMAILIO.format(host=HERE[0], port=HERE[1], certificate=certificate, key=key)
        config.write_text(text.lstrip())
        command = ["kamailio", "-DD", "-E", "-f", str(config), "-Y", directory, "-m", "64"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "-P", f"{directory}/pid"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(10)


PEERS: dict[str, Callable[[Path, Path], AbstractContextManager[int]]] = {
    "relay": relay,
    "kamailio": kamailio,
}


async def one(context: ssl.SSLContext) -> str:
    """One connection from a trunk's address; the TLS version that was spoken."""
    reader, writer = await asyncio.open_connection(*HERE, ssl=context, local_addr=(CALLER, 0))
    writer.write(PING)
    pong = await reader.readexactly(len(PONG))
    assert pong == PONG
    version = str(writer.get_extra_info("ssl_object").version())
    writer.close()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()
    return version


async def until_up(context: ssl.SSLContext) -> None:
    """Until the first connection succeeds."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await one(context)
                return
            except OSError:
                await asyncio.sleep(0.1)


async def many(context: ssl.SSLContext, connections: int, at_once: int) -> set[str]:
    left = iter(range(connections))
    versions: set[str] = set()

    async def worker() -> None:
        for _ in left:
            versions.add(await one(context))

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return versions


def own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(pid: int, certificate: Path, connections: int, at_once: int) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=str(certificate))
    await until_up(context)
    await many(context, WARM_UP, at_once)
    before, own, began = common.cpu_s(pid), own_cpu_s(), time.monotonic()
    versions = await many(context, connections, at_once)
    elapsed = time.monotonic() - began
    return {
        "per_s": round(connections / elapsed, 1),
        "cpu_ms": round((common.cpu_s(pid) - before) * 1000 / connections, 3),
        "generator_cpu": round((own_cpu_s() - own) / elapsed, 2),
        "versions": sorted(versions),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=PEERS, action="append")
    options = parser.parse_args()
    names = options.only or list(PEERS)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="relay-tls-") as directory:
        certificate, key = make_pair(Path(directory))
        for _ in range(options.rounds):
            for name in names:
                with PEERS[name](certificate, key) as pid:
                    run = measure(pid, certificate, options.connections, options.at_once)
                    runs[name].append(uvloop.run(run))
    per_s = {name: statistics.median(r["per_s"] for r in rs) for name, rs in runs.items()}
    cpu_ms = {name: statistics.median(r["cpu_ms"] for r in rs) for name, rs in runs.items()}
    ratio = round(cpu_ms["relay"] / cpu_ms["kamailio"], 3) if len(names) == 2 else None
    common.report("tls_setup", per_s=per_s, cpu_ms=cpu_ms, ratio_to_kamailio=ratio, runs=runs)


if __name__ == "__main__":
    main()
