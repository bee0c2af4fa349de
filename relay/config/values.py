"""The values that a region's configuration is written in; the models are beside this file.

Units are in the names of keys. A value that cannot be meant raises ValueError with what is
wrong and the nearest right form.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_SERVER = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(\d{1,5}))?")
_SECRET = re.compile(r"(env|file):(.+)")


def address(value: Any) -> Any:
    """An IP address in its normal form, that other networks than its own can reach."""
    if not isinstance(value, str):
        return value
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(f"{value!r} is not an IP address") from None
    if isinstance(found, ipaddress.IPv6Address):
        if found.is_link_local or found.scope_id is not None:
            raise ValueError(
                f"{value!r} is a link-local address, which is good on its own link only: "
                "use a global or a unique local one (fd00::/8)"
            )
        if found.ipv4_mapped is not None:
            raise ValueError(f"{value!r} is an IPv4 address: write {found.ipv4_mapped}")
    return str(found)


def server_address(text: str, port: int = 53) -> tuple[str, int]:
    """(address, port) of `192.0.2.53`, `192.0.2.53:5353` or `[2001:db8::53]:5353`.

    Raises ValueError with an explanation.
    """
    match = _SERVER.fullmatch(text)
    host, port_text = (text, None) if match is None else (match[1] or match[2], match[3])
    if port_text is not None:
        port = int(port_text)
        if not 0 < port < 65536:
            raise ValueError(f"{text!r}: the port is not 1 to 65535")
    return address(host), port


def host_port(host: str, port: int) -> str:
    """As URIs have it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _network(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if "%" in value:
        raise ValueError(f"{value!r} names a link: give the network without %…")
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        try:
            meant = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ValueError(f"{value!r} is not a network such as 192.0.2.0/24") from None
        raise ValueError(f"{value!r} has bits beyond its prefix: did you mean {meant}?") from None


def _secret(value: Any) -> Any:
    """`env:NAME` or `file:PATH` is read now; anything else is the secret itself."""
    if not isinstance(value, str) or (match := _SECRET.fullmatch(value)) is None:
        return value
    kind, name = match.groups()
    if kind == "env":
        found = os.environ.get(name)
        if not found:
            raise ValueError(f"the environment variable {name} is not set")
        return found
    try:
        return Path(name).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise ValueError(f"{name}: {why}") from None


Address = Annotated[str, BeforeValidator(address)]
NetworkText = Annotated[Network, BeforeValidator(_network)]
Count = Annotated[int, Field(strict=True, ge=1)]
Rate = Annotated[float, Field(strict=True, gt=0, le=100000)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=86400)]
Switch = Annotated[bool, Field(strict=True)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
# A voice client within its account: the user part of its SIP address.
IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
Identity = Annotated[str, Field(pattern=rf"^{IDENTITY.pattern}$")]
Secret = Annotated[SecretStr, BeforeValidator(_secret), Field(min_length=1)]
RecordingMode = Literal[
    "do-not-record",
    "record-from-ringing",
    "record-from-answer",
    "record-from-ringing-dual",
    "record-from-answer-dual",
]


class Section(BaseModel):
    """Frozen, and no key is ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
