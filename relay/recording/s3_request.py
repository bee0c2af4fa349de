"""Requests to a bucket that its client does not make: where it is, what was left half put.

Signed by AWS Signature Version 4, one connection each, through the gate. Nothing is followed.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlencode
from xml.etree.ElementTree import Element, ParseError

from relay.errors import StoreAway

TIMEOUT_S = 10.0
MOST_OCTETS = 1 << 20
_EMPTY = hashlib.sha256(b"").hexdigest()
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What requests are signed with, and for which region."""

    access_key: str
    secret_key: str
    region: str


@dataclass(frozen=True, slots=True)
class Way:
    """How the endpoint is reached: its host and port, and the gate."""

    host: str
    port: int
    gate_port: int
    gate_authorization: str
    tls: ssl.SSLContext

    @property
    def authority(self) -> str:
        """As the Host field has it: a port that goes without saying is left out."""
        return self.host if self.port == 443 else f"{self.host}:{self.port}"


def signed(
    method: str,
    authority: str,
    path: str,
    query: Mapping[str, str],
    credentials: Credentials,
    now: datetime,
) -> dict[str, str]:
    """The header fields of a request without a body. `path` is not encoded yet."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{credentials.region}/s3/aws4_request"
    fields = {"host": authority, "x-amz-content-sha256": _EMPTY, "x-amz-date": stamp}
    names = ";".join(fields)
    lines = [f"{name}:{value}" for name, value in fields.items()]
    where = (method, quote(path, safe="/-_.~"), encoded(query))
    request = "\n".join((*where, *lines, "", names, _EMPTY))
    text = "\n".join(
        ("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest())
    )
    key = b"AWS4" + credentials.secret_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    fields["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return fields


def encoded(query: Mapping[str, str]) -> str:
    """A query as it is signed and sent: sorted, each octet that is special written %XX."""
    return urlencode(sorted(query.items()), quote_via=quote, safe="-_.~")


def ask(
    way: Way, method: str, path: str, query: Mapping[str, str], credentials: Credentials
) -> Element | None:
    """The answer's document; None when it has none, or the store knows no such request. Blocks.
    Raises StoreAway."""
    connection = http.client.HTTPSConnection(
        "127.0.0.1", way.gate_port, timeout=TIMEOUT_S, context=way.tls
    )
    connection.set_tunnel(way.host, way.port, {"Proxy-Authorization": way.gate_authorization})
    fields = signed(method, way.authority, path, query, credentials, datetime.now(UTC))
    target = quote(path, safe="/-_.~") + "?" + encoded(query)
    try:
        connection.request(method, target, headers=fields)
        response = connection.getresponse()
        body = response.read(MOST_OCTETS)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = reason.removeprefix("Tunnel connection failed: 502 ")
        raise StoreAway(f"the store does not answer: {reason}") from error
    finally:
        connection.close()
    if response.status == http.client.NOT_IMPLEMENTED:
        return None
    if not 200 <= response.status < 300:
        code = _CODE.search(body.decode("utf-8", "replace"))
        raise StoreAway(f"the store answers {response.status}{' ' + code[1] if code else ''}")
    return _document(body) if body else None


def _document(body: bytes) -> Element:
    import xml.etree.ElementTree as ET

    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise StoreAway("the store's answer is no document of S3's")
    try:
        return ET.fromstring(body)
    except ParseError as error:
        raise StoreAway("the store's answer is no document of S3's") from error
