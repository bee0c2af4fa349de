"""Writes the configuration of a region for tests and measurements."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.keys.ring import KeyRing

NEWLINE = "\n"


def host_port(host: str, port: int) -> str:
    """As a SIP URI has it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def inline(value: Any) -> str:
    """A value as TOML has it on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(inline(item) for item in value) + "]"
    return json.dumps(value)


@dataclass(frozen=True, slots=True)
class TrunkSpec:
    """A trunk at one address; `to` names the trunk that gets its calls to `numbers`.

    "+*" is every number, "*" also what is none, as SIPp's default user "service".
    """

    name: str
    host: str
    port: int
    transport: str = "udp"
    to: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    numbers: tuple[str, ...] = ("+*", "*")
    scheme: str = "sip"

    def toml(self) -> str:
        suffix = "" if self.transport == "udp" else f";transport={self.transport}"
        values: dict[str, Any] = {
            "allow": [str(ipaddress.ip_network(self.host))],
            "calls_per_second": 10000,
            "concurrent_calls": 2500,
            "origination": [{"uri": f"{self.scheme}:{host_port(self.host, self.port)}{suffix}"}],
            **self.options,
        }
        lines = [
            "[[trunk]]",
            f'name = "{self.name}"',
            *(f"{key} = {inline(value)}" for key, value in values.items()),
        ]
        for number in self.numbers if self.to else ():
            lines += ["[[route]]", f'from = "{self.name}"', f'number = "{number}"']
            lines += [f'to = "{self.to}"']
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class RegionSpec:
    """One relay. `store` is where recordings go, a directory or a bucket by `s3`; `host_ipv6` is
    listened at too, same port.

    `sip` are more keys of its section; `listen` more listeners; `more` is text of whole sections.
    """

    host: str
    port: int
    trunks: tuple[TrunkSpec, ...]
    store: Path | str
    ports: str = "20000-31999"  # below the ports that the kernel hands out
    workers: int = 1
    idle_timeout_s: float = 60
    log_level: str = "info"
    host_ipv6: str | None = None
    sip: dict[str, Any] = field(default_factory=dict)
    listen: tuple[str, ...] = ()
    s3: dict[str, Any] = field(default_factory=dict)
    more: str = ""

    def write(self, path: Path) -> Path:
        """Write the TOML file, make the region's keys beside it, and return its path."""
        KeyRing.create(path.parent / "keys")
        hosts = [self.host, *([self.host_ipv6] if self.host_ipv6 else [])]
        listen = [f"{k}:{host_port(host, self.port)}" for host in hosts for k in ("udp", "tcp")]
        sip = {"listen": [*listen, *self.listen], **self.sip}
        store = self.store if isinstance(self.store, str) else f"file:{self.store}"
        s3 = f"s3 = {inline(self.s3)}" if self.s3 else ""
        media_ipv6 = f'address_ipv6 = "{self.host_ipv6}"' if self.host_ipv6 else ""
        head = f"""
[region]
id = "t1"
jurisdiction = "EU"
networks = ["127.0.0.0/8", "::1/128"]
[sip]
{NEWLINE.join(f"{key} = {inline(value)}" for key, value in sip.items())}
[media]
address = "{self.host}"
{media_ipv6}
ports = "{self.ports}"
workers = {self.workers}
idle_timeout_s = {self.idle_timeout_s:g}
[recording]
store = "{store}"
spool = "{path.parent / "spool"}"
{s3}
[audit]
directory = "{path.parent / "audit"}"
[database]
url = "sqlite:{path.parent / "relay.db"}"
queue = "{path.parent / "queue"}"
[keys]
directory = "{path.parent / "keys"}"
[log]
format = "json"
level = "{self.log_level}"
{self.more}
"""
        path.write_text("\n".join((head, *(trunk.toml() for trunk in self.trunks))) + "\n")
        return path
