"""The example configuration made fit for a demonstration on this machine."""

from __future__ import annotations

import re
import socket
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import relay
from relay.keys.ring import KeyRing
from relay.probe.certificates import Authority, Pair
from relay.probe.staff import Office
from relay.probe.wav_file import ProbeError

EXAMPLE = Path(relay.__file__).parent / "example.toml"
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Region:
    """Where everybody is: the relay's SIP address, that for UDP, the PBX and the carrier.

    `pbx_pair` and `authority` are there when the PBX speaks TLS.
    """

    config: Path
    listen: str
    udp: Address
    pbx: Address
    carrier: Address
    keys: Path
    office: Office
    pbx_pair: Pair | None = None
    authority: Path | None = None


def prepare(example: Path, output: Path, scratch: Path, secure: bool = False) -> Region:
    """Copy the configuration to `scratch`, with other ports where its own are taken.

    Recordings go below `output`. With `secure` the PBX's trunk is: TLS and SRTP or nothing.
    Raises ProbeError when the example cannot be read.
    """
    try:
        text = example.read_text()
        document = tomllib.loads(text)
        listen = document["sip"]["listen"][0].split(":", 1)[1]
        trunks = {trunk["name"]: trunk["origination"][0]["uri"] for trunk in document["trunk"]}
        wanted = [listen, *(trunks[name].removeprefix("sip:") for name in ("acme", "carrier"))]
        wanted.append(document["http"]["listen"])
    except (OSError, tomllib.TOMLDecodeError, KeyError, IndexError) as error:
        raise ProbeError(f"{example}: not usable for the demonstration: {error!r}") from error
    text, addresses = _free(text, wanted)
    (host, port), pbx, carrier, http = addresses
    output = output.resolve()
    KeyRing.create(output / "keys")
    url, region_id = f"http://{http[0]}:{http[1]}", document["region"]["id"]
    office = Office.open(url, region_id, scratch / "staff.pub.pem")
    text = _with_json(_below(output, text), document) + office.section
    ours = (host, port)
    region = Region(
        *(scratch / "relay.toml", f"{host}:{port}", ours, pbx, carrier, output / "keys", office)
    )
    if secure:
        text, region = _secured(text, region, scratch)
    region.config.write_text(text)
    return region


def _free(text: str, wanted: list[str]) -> tuple[str, list[Address]]:
    """With another port where one is taken; and the addresses."""
    addresses = []
    for address in wanted:
        host, port = address.rsplit(":", 1)
        chosen = (host, free_port(host, int(port)))
        text = text.replace(address, f"{host}:{chosen[1]}")
        addresses.append(chosen)
    return text, addresses


def _with_json(text: str, document: dict[str, Any]) -> str:
    """With a log of JSON lines."""
    if "log" not in document:
        return '[log]\nformat = "json"\n\n' + text
    return re.sub(r'(?m)^(\s*format\s*=\s*)"[^"]*"', r'\1"json"', text)


def _below(output: Path, text: str) -> str:
    """With everything that is kept in this directory."""
    kept = (
        ("file:var/", f"file:{output}/"),
        ("sqlite:var/", f"sqlite:{output}/"),
        ('"var/', f'"{output}/'),
        ("# queue = ", "queue = "),
        ("# [audit]\n# directory", "[audit]\ndirectory"),
    )
    for old, new in kept:
        text = text.replace(old, new)
    return text


def _secured(text: str, region: Region, scratch: Path) -> tuple[str, Region]:
    """The same with a TLS listener, certificates of an authority made for this, and the PBX's
    trunk `secure`."""
    host = region.listen.rpartition(":")[0]
    listen = f"{host}:{free_port(host, 5061)}"
    authority = Authority(scratch / "ca")
    ours, pbx = authority.issue("relay", host), authority.issue("pbx", region.pbx[0])
    files = {**ours.tls, "ca": str(authority.file)}
    tls = ", ".join(f'{key} = "{file}"' for key, file in files.items())
    address = f"{region.pbx[0]}:{region.pbx[1]}"
    for old, new in (
        ("listen = [", f'tls = {{ {tls} }}\nlisten = ["tls:{listen}", '),
        ('name = "acme"', 'name = "acme"\nsecure = true'),
        (f"sip:{address}", f"sip:{address};transport=tls"),
    ):
        text = text.replace(old, new, 1)
    return text, replace(region, listen=listen, pbx_pair=pbx, authority=authority.file)


def free_port(host: str, wanted: int) -> int:
    """`wanted` if UDP and TCP are free there, else another that is."""
    ports: list[int] = [wanted, *range(wanted + 100, wanted + 1000, 10)]
    for port in ports:
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as attempt:
                    if kind == socket.SOCK_STREAM:
                        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    attempt.bind((host, port))
        except OSError:
            continue
        return port
    raise ProbeError(f"no free port near {wanted} at {host}")
