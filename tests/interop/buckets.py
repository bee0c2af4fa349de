"""S3-compatible stores of others, over TLS: moto, and s3rver.

Each lacks what the other has: moto takes any credentials, s3rver ignores conditions and knows no
list of unfinished uploads.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.config.kept import S3
from relay.probe.certificates import Authority
from tests.interop.region import free_port, need

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
NAME = "voice-t1"


@dataclass(frozen=True, slots=True)
class Server:
    """One of them, with the bucket NAME in it; `key` is both halves of its credentials."""

    kind: str
    port: int
    region: str
    key: str
    ca: Path

    @property
    def section(self) -> dict[str, Any]:
        """As `[recording.s3]` has it."""
        return {
            "endpoint": f"https://{HOST}:{self.port}",
            "region": self.region,
            "access_key": self.key,
            "secret_key": self.key,
            "ca": str(self.ca),
        }

    def s3(self, **changed: str) -> S3:
        return S3.model_validate({**self.section, **changed})

    def client(self) -> Any:
        """Another library's, to look at the bucket with."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=f"https://{HOST}:{self.port}",
            region_name=self.region,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.key,
            verify=str(self.ca),
        )


@contextmanager
def moto(directory: Path) -> Iterator[Server]:
    authority, port = Authority(directory), free_port(HOST)
    pair = authority.issue("server", HOST)
    command = (sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port), "-s")
    with _running((*command, "-c", str(pair.certificate), "-k", str(pair.key)), port, directory):
        server = Server("moto", port, "eu-west-1", "testing", authority.file)
        there = {"LocationConstraint": server.region}
        server.client().create_bucket(Bucket=NAME, CreateBucketConfiguration=there)
        yield server


@contextmanager
def s3rver(directory: Path) -> Iterator[Server]:
    need("node")
    authority, port = Authority(directory), free_port(HOST)
    pair = authority.issue("server", HOST)
    command = (
        *("node", str(ROOT / "web/node_modules/s3rver/bin/s3rver.js"), "--silent"),
        *("-d", str(directory / "objects"), "-a", HOST, "-p", str(port), "--no-vhost-buckets"),
        *("--cert", str(pair.certificate), "--key", str(pair.key), "--configure-bucket", NAME),
    )
    with _running(command, port, directory):
        yield Server("s3rver", port, "us-east-1", "S3RVER", authority.file)


@contextmanager
def _running(command: Sequence[str], port: int, directory: Path) -> Iterator[None]:
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 30
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)  # polls for the socket
        yield
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False
