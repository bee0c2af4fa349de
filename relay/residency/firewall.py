"""The second lock: what the kernel lets a node send and take, from the same manifest.

The relay's own checks are lines of Python; these are the kernel's, and hold whatever runs as the
relay's user. Loopback is this machine itself, so it is inside.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

from relay.residency.manifest import digest

TABLE = "relay_boundary"
LOGGED_PER_SECOND = 1
_UDP, _STREAMS = ("udp",), ("tcp", "tls", "ws", "wss")
_HEAD = """\
#!/usr/sbin/nft -f
# Region {region}, policy {policy}.
# Made by `relay boundary firewall`; load it with `nft -f FILE`, again after each change of the
# manifest: it replaces its own table in one step and touches no other.
# Counters: `nft list counters table inet {table}`.
table inet {table}
delete table inet {table}
table inet {table} {{
"""
# Neighbour discovery and router advertisements of IPv6 are no traffic of anybody's.
_WHOLE = """\
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, \
nd-router-advert }} accept
        goto {judge}
"""


def nftables(manifest: dict[str, Any], user: str | None) -> str:
    """A ruleset. What `user` sends, and what comes for the node's listeners and media ports, is
    judged; without a user all that the machine sends and takes.

    A manifest that is not enforced only counts.
    """
    kinds = {4: "ipv4_addr", 6: "ipv6_addr"}
    lines = [_HEAD.format(region=manifest["region"]["id"], policy=digest(manifest), table=TABLE)]
    for version, found in _by_version(manifest["networks"]).items():
        elements = f"        elements = {{ {', '.join(found)} }}\n" if found else ""
        lines.append(
            f"    set inside{version} {{\n        type {kinds[version]}\n"
            f"        flags interval\n{elements}    }}\n"
        )
    for direction in ("out", "in"):
        lines += [f"    counter {where}_{direction} {{ }}\n" for where in ("inside", "outside")]
    sent = (
        f"        meta skuid {user} goto judge_out\n" if user else _WHOLE.format(judge="judge_out")
    )
    taken = _listening(manifest) if user else _WHOLE.format(judge="judge_in")
    last = "drop" if manifest["region"]["enforce"] else "accept"
    lines += [
        _hook("output", sent),
        _hook("input", taken),
        _judge("out", "oifname", "daddr", last),
        _judge("in", "iifname", "saddr", last),
        "}\n",
    ]
    return "".join(lines)


def systemd(manifest: dict[str, Any]) -> str:
    """A drop-in for the node's unit: systemd's own filter, by cgroup (systemd.resource-control)."""
    found = [each for networks in _by_version(manifest["networks"]).values() for each in networks]
    head = f"# Region {manifest['region']['id']}, policy {digest(manifest)}.\n"
    if not manifest["region"]["enforce"]:
        return head + "# A dry run (region.enforce = false): nothing is denied.\n"
    allowed = "".join(f"IPAddressAllow={network}\n" for network in ("localhost", *found))
    return f"{head}[Service]\nIPAddressDeny=any\n{allowed}"


def _by_version(networks: Iterable[str]) -> dict[int, list[str]]:
    """Without overlaps, which the kernel's intervals cannot hold."""
    v4: list[ipaddress.IPv4Network] = []
    v6: list[ipaddress.IPv6Network] = []
    for text in networks:
        network = ipaddress.ip_network(text)
        if isinstance(network, ipaddress.IPv4Network):
            v4.append(network)
        else:
            v6.append(network)
    return {
        4: [str(network) for network in ipaddress.collapse_addresses(v4)],
        6: [str(network) for network in ipaddress.collapse_addresses(v6)],
    }


def _hook(name: str, rules: str) -> str:
    return (
        f"    chain {name} {{\n        type filter hook {name} priority filter; policy accept;\n"
        f"{rules}    }}\n"
    )


def _judge(direction: str, interface: str, address: str, last: str) -> str:
    return (
        f"    chain judge_{direction} {{\n"
        f'        {interface} "lo" accept\n'
        f"        ip {address} @inside4 counter name inside_{direction} accept\n"
        f"        ip6 {address} @inside6 counter name inside_{direction} accept\n"
        f"        counter name outside_{direction}\n"
        f"        limit rate {LOGGED_PER_SECOND}/second "
        f'log prefix "{TABLE} {direction}: "\n'
        f"        {last}\n    }}\n"
    )


def _listening(manifest: dict[str, Any]) -> str:
    """Jumps for what comes to the node's own ports: a packet that arrives has no user yet."""
    listens = [text.split(":", 1) for text in manifest["listen"]]
    udp = [text.rpartition(":")[2] for kind, text in listens if kind in _UDP]
    tcp = [text.rpartition(":")[2] for kind, text in listens if kind in _STREAMS]
    if manifest["http"] is not None:
        tcp.append(manifest["http"].rpartition(":")[2])
    rules = _ports("udp", [*udp, manifest["media"]["ports"]])
    return rules + _ports("tcp", tcp)


def _ports(protocol: str, ports: Sequence[str]) -> str:
    """Merged: an interval may hold no port twice."""
    spans = sorted((int(first), int(last or first)) for first, _, last in _spans(ports))
    merged: list[tuple[int, int]] = []
    for first, last in spans:
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    if not merged:
        return ""
    told = ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in merged)
    return f"        {protocol} dport {{ {told} }} goto judge_in\n"


def _spans(ports: Sequence[str]) -> list[tuple[str, str, str]]:
    return [text.partition("-") for text in ports]
