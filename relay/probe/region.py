"""Writes the configuration of a region for tests and measurements."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def host_port(host: str, port: int) -> str:
    """As a SIP URI has it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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

    def toml(self) -> str:
        suffix = "" if self.transport == "udp" else f";transport={self.transport}"
        values: dict[str, Any] = {
            "calls_per_second": 10000,
            "concurrent_calls": 2500,
            **self.options,
        }
        lines = [
            "[[trunk]]",
            f'name = "{self.name}"',
            f'allow = ["{ipaddress.ip_network(self.host)}"]',
            f'origination = [{{ uri = "sip:{host_port(self.host, self.port)}{suffix}" }}]',
            *(f"{key} = {json.dumps(value)}" for key, value in values.items()),
        ]
        for number in self.numbers if self.to else ():
            lines += ["[[route]]", f'from = "{self.name}"', f'number = "{number}"']
            lines += [f'to = "{self.to}"']
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class RegionSpec:
    """One relay. `store` is where recordings go; `host_ipv6` is listened at too, same port."""

    host: str
    port: int
    trunks: tuple[TrunkSpec, ...]
    store: Path
    ports: str = "20000-31999"  # below the ports that the kernel hands out
    workers: int = 1
    idle_timeout_s: float = 60
    log_level: str = "info"
    host_ipv6: str | None = None

    def write(self, path: Path) -> Path:
        """Write the TOML file and return its path."""
        hosts = [self.host, *([self.host_ipv6] if self.host_ipv6 else [])]
        listen = ", ".join(
            f'"{kind}:{host_port(host, self.port)}"' for host in hosts for kind in ("udp", "tcp")
        )
        media_ipv6 = f'address_ipv6 = "{self.host_ipv6}"' if self.host_ipv6 else ""
        head = f"""
[region]
id = "t1"
jurisdiction = "EU"
networks = ["127.0.0.0/8", "::1/128"]
[sip]
listen = [{listen}]
[media]
address = "{self.host}"
{media_ipv6}
ports = "{self.ports}"
workers = {self.workers}
idle_timeout_s = {self.idle_timeout_s:g}
[recording]
store = "file:{self.store}"
[log]
format = "json"
level = "{self.log_level}"
"""
        path.write_text("\n".join((head, *(trunk.toml() for trunk in self.trunks))) + "\n")
        return path
