"""Nothing of the server reaches a network without asking the boundary: read from its source.

Who opens a connection, sends a datagram, looks a name up or imports what does so is listed here,
and asks `residency/boundary` where it does it; or need not, for the reason that is given.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Callers from outside, on another machine: the server never imports them (import-linter).
OUTSIDE = ("probe", "client")

# Modules that open connections by themselves, with all below them.
NETWORK = re.findall(
    r"\S+",
    """aiobotocore aiohttp asyncpg boto3 botocore dns.asyncquery dns.asyncresolver dns.query
    dns.resolver ftplib grpc http.client httpx imaplib logging.handlers nntplib obstore paramiko
    poplib psycopg psycopg2 pycurl redis requests smtplib socketserver subprocess telnetlib
    urllib.request urllib3 uvicorn websocket websockets.asyncio websockets.client websockets.legacy
    websockets.sync xmlrpc""",
)
# Calls that open one, send, look a name up, or start a program that could.
OPENING = frozenset(
    re.findall(
        r"\S+",
        """create_connection create_datagram_endpoint create_server create_subprocess_exec
        create_subprocess_shell create_unix_connection execv execve execvp fork getaddrinfo
        gethostbyaddr gethostbyname gethostbyname_ex getnameinfo open_connection
        open_unix_connection popen posix_spawn sendmsg sendto sock_connect sock_sendto socket
        start_server system""",
    )
)
ASKING = frozenset(("admit", "judge", "allows", "permits", "_permits"))

# These ask, in each class or function that opens something.
ASK = {
    "database/anchors",
    "database/postgres",
    "recording/gate",
    "signalling/dns",
    "signalling/stream",
}
# These need not.
NEED_NOT = {
    "commands/boundary": "a person asks where a name leads; nothing is sent there",
    "control/demo_clients": "the laptop region: connects a UDP socket, which sends nothing",
    "control/http": "listens",
    "media/engine": "binds a socket to ask whether an address is ours",
    "recording/bucket": "its client reaches the network through recording/gate alone",
    "recording/s3_request": "speaks through recording/gate alone",
    "server": "binds a socket to ask whether an address is ours",
    "signalling/udp": "listens; what it sends has passed Endpoint._may_leave",
}


def sites(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(class or function at the top, or "" for an import of the module's; what is there)."""
    for top in tree.body:
        name = getattr(top, "name", "")
        for node in ast.walk(top):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [f"{node.module}.{alias.name}" for alias in node.names]
                for alias in node.names:  # under another name its calls would not be seen
                    if node.module in ("asyncio", "os", "socket") and alias.name in OPENING:
                        yield "", f"{node.module}.{alias.name}"
            elif isinstance(node, ast.Call):
                if (called := _called(node)) in OPENING:
                    yield name, f"{called}()"
                continue
            else:
                continue
            for module in found:
                if any(module == each or module.startswith(f"{each}.") for each in NETWORK):
                    yield "", module


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", None) or getattr(call.func, "id", "")


def asks(tree: ast.Module, name: str) -> bool:
    """Whether the boundary is asked in a class or function; without a name, anywhere."""
    return any(
        isinstance(node, ast.Call) and _called(node) in ASKING
        for top in tree.body
        if not name or getattr(top, "name", "") == name
        for node in ast.walk(top)
    )


def unlisted(module: str, tree: ast.Module) -> list[str]:
    """What a module does that it may not."""
    found = sorted(set(sites(tree)))
    if module in NEED_NOT or not found:
        return []
    if module not in ASK:
        return [f"{module}: {what} at {name or 'its top'}" for name, what in found]
    return [f"{module}: {what} at {name}" for name, what in found if not asks(tree, name)]


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / "relay").rglob("*.py")):
        module = path.relative_to(ROOT / "relay").with_suffix("").as_posix()
        if module.split("/")[0] not in OUTSIDE:
            yield module, ast.parse(path.read_text("utf-8"))


def test_no_module_reaches_a_network_without_the_boundary() -> None:
    wrong = [line for module, tree in _modules() for line in unlisted(module, tree)]
    assert not wrong, "ask residency/boundary there, and list it in this test:\n" + "\n".join(wrong)


def test_the_lists_name_only_what_is_there() -> None:
    found = {module for module, tree in _modules() if any(sites(tree))}
    assert found == ASK | NEED_NOT.keys()


@pytest.mark.parametrize(
    "planted",
    [
        "import httpx",
        "from urllib import request",
        "def upload():\n    import obstore.store",
        "import socket\n\ndef leak():\n    socket.socket().connect(('203.0.113.1', 9))",
        "async def leak(loop):\n    await loop.create_connection(None, '203.0.113.1', 9)",
        "import asyncio\n\nasync def leak():\n    await asyncio.open_connection('x', 9)",
        "import os\n\ndef leak():\n    os.system('curl x')",
        "from subprocess import run",
        "from asyncio import open_connection as harmless",
        "from socket import socket as harmless",
        "import logging.handlers",
    ],
)
def test_one_that_did_would_be_found(planted: str) -> None:
    assert unlisted("call/planted", ast.parse(planted))
    assert unlisted("server2", ast.parse(planted))


def test_one_that_is_listed_and_does_not_ask_is_found() -> None:
    asked = (
        "class A:\n    def f(self, loop):\n        self.b.admit(0, 'x')\n        loop.sendto(b'')\n"
    )
    other = "def leak(loop):\n    loop.sendto(b'')\n"
    assert not unlisted("signalling/dns", ast.parse(asked))
    assert unlisted("signalling/dns", ast.parse(asked + other)) == [
        "signalling/dns: sendto() at leak"
    ]


def test_the_engine_has_its_sockets_in_one_place() -> None:
    """What it sends to comes in by `CallMedia`: an address that the negotiation has admitted, or
    one that `CallFlows.inside` has checked."""
    opening = re.compile(r"\b(?:socket|connect|sendto|sendmsg|sendmmsg|getaddrinfo)\s*\(")
    found = {
        path.name
        for path in (ROOT / "native").iterdir()
        if path.suffix in (".pxd", ".pxi", ".pyx") and opening.search(path.read_text("utf-8"))
    }
    assert found == {"sys.pxd"}
