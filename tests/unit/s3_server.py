"""A small S3-compatible store over TLS that misbehaves on demand."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from relay.probe.certificates import Pair


class FaultyS3:
    """Objects in memory. `fault(method, path)` is asked before each request: a status to answer
    it with, or None to serve it. `damaged` changes the last octet of what is put."""

    def __init__(self, pair: Pair, location: str = "eu-west-1", host: str = "127.0.0.1") -> None:
        self.objects: dict[str, bytes] = {}
        self.location = location
        self.fault: Callable[[str, str], int | None] = lambda method, path: None
        self.damaged = False
        self.redirect = ""
        self.lock = threading.Lock()
        self.requests: list[str] = []
        self._pair = pair
        self._host = host
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def start(self) -> None:
        """At the port of last time, once there was one."""
        server = ThreadingHTTPServer((self._host, self.port), _handler(self))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self._pair.certificate, self._pair.key)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.daemon_threads = True
        # A client that does not trust us, or gives up, is no news.
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        self.port = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def _handler(s3: FaultyS3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes = b"", **fields: str) -> None:
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name.replace("_", "-"), value)
            if "Content_Length" not in fields:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            target = urlsplit(self.path)
            key, query = unquote(target.path), parse_qs(target.query, keep_blank_values=True)
            s3.requests.append(f"{self.command} {key}")
            status = s3.fault(self.command, key)
            if status is not None:
                more = {"Location": s3.redirect} if s3.redirect else {}
                self.answer(status, b"<Error><Code>Fault</Code></Error>", **more)
            elif self.command == "GET" and "location" in query:
                self.answer(200, _LOCATION % s3.location.encode())
            elif self.command == "GET" and "uploads" in query:
                self.answer(501)
            elif self.command == "PUT":
                self.put(key, body)
            elif key not in s3.objects:
                self.answer(204 if self.command == "DELETE" else 404)
            elif self.command == "DELETE":
                del s3.objects[key]
                self.answer(204)
            else:
                self.get(s3.objects[key])

        def put(self, key: str, body: bytes) -> None:
            assert hashlib.sha256(body).hexdigest() == self.headers["x-amz-content-sha256"]
            with s3.lock:
                taken = self.headers.get("If-None-Match") == "*" and key in s3.objects
                if not taken:
                    s3.objects[key] = body[:-1] + b"\0" if s3.damaged else body
            if taken:
                self.answer(412)
                return
            self.answer(200, ETag=f'"{hashlib.md5(body).hexdigest()}"')

        def get(self, body: bytes) -> None:
            fields = {
                "Last_Modified": "Thu, 26 Nov 2026 06:15:00 GMT",
                "ETag": f'"{hashlib.md5(body).hexdigest()}"',
            }
            wanted = self.headers.get("Range")
            if self.command == "HEAD" or wanted is None:
                self.answer(200, body, **fields)
            else:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                part = body[int(first) : int(last) + 1]
                span = f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}"
                self.answer(206, part, Content_Range=span, **fields)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the tests read `requests`."""

        do_GET = do_PUT = do_HEAD = do_DELETE = serve

    return Handler


_LOCATION = (
    b'<?xml version="1.0"?><LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"%s</LocationConstraint>"
)
