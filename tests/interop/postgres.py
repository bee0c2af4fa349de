"""A PostgreSQL of one test session, in a directory of its own, that is thrown away."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from relay.config import Database as Settings
from relay.database.session import Database
from relay.probe.certificates import Authority
from relay.residency.boundary import Boundary
from tests.interop.region import free_port, need

HOST, USER, PASSWORD = "127.0.0.1", "relay", "of-the-tests"
CERTIFIED = "db.region.test"  # the one name that its certificate proves
WAIT_S = "30"
INSIDE = Boundary([ip_network("127.0.0.0/8")])


@dataclass(frozen=True)
class Cluster:
    """A server that listens at HOST, with TLS as well, and may be stopped and started."""

    directory: Path
    port: int
    authority: Path

    def settings(self, name: str, host: str = HOST, **more: Any) -> Settings:
        url = f"postgresql://{USER}@{host}:{self.port}/{name}"
        return Settings.model_validate({"url": url, "password": PASSWORD, **more})

    def start(self) -> None:
        options = {"port": self.port, "listen_addresses": HOST, "fsync": "off", "ssl": "on"}
        options |= {"unix_socket_directories": "''", "log_min_messages": "fatal"}
        given = " ".join(f"-c {name}={value}" for name, value in options.items())
        log = str(self.directory / "log")
        self._ctl("start", "-l", log, "-o", given)

    def stop(self) -> None:
        """As a crash would."""
        self._ctl("stop", "-m", "immediate")

    def create(self, name: str) -> Cluster:
        """One more database in it."""
        run("createdb", "-h", HOST, "-p", str(self.port), "-U", USER, name, PGPASSWORD=PASSWORD)
        return self

    def tell(self, name: str, statements: str) -> None:
        """In SQL, to one database."""
        at = ("-h", HOST, "-p", str(self.port), "-U", USER, "-d", name)
        run("psql", *at, "-q", "-v", "ON_ERROR_STOP=1", "-c", statements, PGPASSWORD=PASSWORD)

    def disconnect(self, name: str) -> None:
        """Whoever is connected to one database has to connect again."""
        whose = f"FROM pg_stat_activity WHERE datname = '{name}'"
        self.tell("postgres", f"SELECT pg_terminate_backend(pid) {whose}")

    def _ctl(self, verb: str, *arguments: str) -> None:
        run(
            "pg_ctl", verb, "-w", "-s", "-t", WAIT_S, "-D", str(self.directory / "data"), *arguments
        )


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Its files belong to whom it runs as: it refuses to run as root."""
    need("psql")
    directory = Path(tempfile.mkdtemp(prefix="relay-postgres-"))
    try:
        authority = Authority(directory / "ca")
        pair = authority.issue("server", CERTIFIED)
        (directory / "password").write_text(PASSWORD)
        for path in (directory, directory / "password"):
            _give(path)
        initdb = ["initdb", "-N", "-A", "scram-sha-256", "-U", USER, "-E", "UTF8", "--locale=C"]
        data = directory / "data"
        run(*initdb, "-D", str(data), f"--pwfile={directory / 'password'}")
        shutil.copy(pair.certificate, data / "server.crt")
        shutil.copy(pair.key, data / "server.key")
        (data / "server.key").chmod(0o600)
        for name in ("server.crt", "server.key"):
            _give(data / name)
        made = Cluster(directory, free_port(HOST), authority.file)
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(directory)


def run(program: str, *arguments: str, **environment: str) -> None:
    """One of PostgreSQL's programs, which Debian keeps out of the way."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    command = [str(found[-1]) if found else program, *arguments]
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd="/",
        user=_owner(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    assert done.returncode == 0, f"{program}: {done.stderr.decode(errors='replace')}"


def _owner() -> str | None:
    """Whom it runs as."""
    return "postgres" if os.geteuid() == 0 else None


def _give(path: Path) -> None:
    if (owner := _owner()) is not None:
        os.chown(path, pwd.getpwnam(owner).pw_uid, -1)


def database(settings: Settings, boundary: Boundary = INSIDE) -> Database:
    return Database(settings, boundary)
