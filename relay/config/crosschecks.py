"""What one section of a configuration says about another."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from relay.config.account import Account, read_revoked
from relay.config.certificate import check_authorities, check_recording_key, read_certificate
from relay.config.kept import Access
from relay.config.models import Http, Media, Recording, Region, Sip
from relay.config.peer import Peer
from relay.config.trunk import WEB_TRANSPORTS, Route, Trunk
from relay.config.values import Network, server_address
from relay.errors import CertificateError
from relay.sip.locate import is_numeric
from relay.sip.uri import SipUri, transport_to

Parts = Mapping[str, Any]


def mistakes(data: Mapping[str, Any], parts: Parts) -> list[str]:
    """Checks whatever is valid by itself; `data` is the file, for the names of trunks."""
    trunks: Sequence[Trunk | None] = parts.get("trunk", ())
    accounts: Sequence[Account | None] = parts.get("account", ())
    routes: Sequence[Route | None] = parts.get("route", ())
    if "trunk" not in data and "account" not in data:
        return ["[[trunk]] is missing", *_addresses(parts), *_repeated(routes)]
    found = [*_addresses(parts), *_names(trunks), *_networks(trunks), *_purpose(trunks)]
    found += [*_users(trunks), *_store(parts.get("recording")), *_access(parts.get("access"))]
    found += [*_tls_names(trunks), *_secure(trunks, parts.get("sip"))]
    found += [*_recording("trunk", trunks), *_recording("account", accounts)]
    found += _accounts(accounts, parts.get("sip"), _names_of(data, "trunk"))
    trunk_names, account_names = _names_of(data, "trunk"), _names_of(data, "account")
    found += _routes(routes, trunks, trunk_names, account_names)
    return [*found, *_repeated(routes)]


def _recording(kind: str, peers: Sequence[Peer | None]) -> Iterator[str]:
    """What a peer wants of its recordings, it wants of some; and the file of its key."""
    for index, peer in enumerate(peers):
        if peer is None:
            continue
        if peer.recording == "do-not-record":
            for key in ("recording_required", "recording_key"):
                if getattr(peer, key):
                    yield f"{kind}[{index}].{key}: recording is do-not-record"
        try:
            if peer.recording_key is not None:
                check_recording_key(peer.recording_key)
        except CertificateError as error:
            yield f"{kind}[{index}].recording_key: {error}"


def _store(recording: Recording | None) -> Iterator[str]:
    if recording is None:
        return
    if recording.store.startswith("s3:") and recording.s3 is None:
        yield f"recording.store: {recording.store} needs [recording.s3], which says who holds it"
    if recording.s3 is not None and not recording.store.startswith("s3:"):
        yield "recording.s3: recording.store is no bucket: write it as s3://BUCKET/PREFIX"
    directory = recording.store.removeprefix("file:").removeprefix("//")
    if recording.s3 is None and Path(directory).absolute() == Path(recording.spool).absolute():
        yield f"recording.spool: {recording.spool} is the store: it needs a directory of its own"
    if recording.s3 is not None and recording.s3.ca is not None:
        try:
            check_authorities(recording.s3.ca)
        except CertificateError as error:
            yield f"recording.s3.ca: {error}"


def _access(access: Access | None) -> Iterator[str]:
    """Keys of staff, apart from each other, and files that can be read."""
    if access is None:
        return
    for at, key in enumerate(access.keys):
        if key.id in [other.id for other in access.keys[:at]]:
            yield f"access.keys[{at}].id: {key.id!r} is there already"
        try:
            key.read()
        except CertificateError as error:
            yield f"access.keys[{at}].public_key: {error}"
    try:
        if access.revoked is not None:
            read_revoked(access.revoked)
    except ValueError as error:
        yield f"access.revoked: {error}"


def _names_of(data: Mapping[str, Any], section: str) -> list[str]:
    """As they are in the file, of entries with mistakes too."""
    listed = data.get(section)
    entries = listed if isinstance(listed, list) else []
    return [str(entry.get("name")) for entry in entries if isinstance(entry, dict)]


def _addresses(parts: Parts) -> Iterator[str]:
    sip: Sip | None = parts.get("sip")
    media: Media | None = parts.get("media")
    region: Region | None = parts.get("region")
    if sip is not None:
        yield from _listens(sip, media)
        yield from _certificate(sip)
    if media is not None:
        yield from _media(media)
        yield from _ipv6(sip, media, parts.get("trunk", ()))
    if region is not None:
        yield from _outside(region, sip, media, parts.get("http"), parts.get("trunk", ()))
        yield from _kept_outside(region, parts)


def _listens(sip: Sip, media: Media | None) -> Iterator[str]:
    yield from _families("sip", sip)
    for index, listen in enumerate(sip.listen):
        where = f"sip.listen[{index}]"
        if listen in sip.listen[:index]:
            yield f"{where}: {listen} is listed twice"
        key = "advertise_ipv6" if ":" in listen.host else "advertise"
        if ipaddress.ip_address(listen.host).is_unspecified and getattr(sip, key) is None:
            yield f"{where}: {listen.host} is no address to be called at: set sip.{key}"
        if media is not None and listen.transport == "udp":
            first, last = media.ports
            if first <= listen.port <= last:
                yield f"media.ports: {first}-{last} overlaps {where} ({listen})"


def _certificate(sip: Sip) -> Iterator[str]:
    """The files that TLS needs, as they are now."""
    tls = sip.tls
    for index, listen in enumerate(sip.listen):
        if listen.transport in ("tls", "wss") and (tls is None or tls.certificate is None):
            yield f"sip.listen[{index}]: {listen} needs [sip.tls] with certificate and key"
    if tls is None:
        return
    try:
        if tls.certificate is not None and tls.key is not None:
            read_certificate(tls.certificate, tls.key)
        if tls.ca is not None:
            check_authorities(tls.ca)
    except CertificateError as error:
        yield f"sip.tls: {error}"


def _media(media: Media) -> Iterator[str]:
    yield from _families("media", media)
    for key, advertise in (("address", "advertise"), ("address_ipv6", "advertise_ipv6")):
        host = getattr(media, key)
        if host is None:
            continue
        if ipaddress.ip_address(host).is_unspecified and getattr(media, advertise) is None:
            yield f"media.{key}: {host} is no address to send to: set media.{advertise}"
    if media.advertise_ipv6 is not None and media.address_ipv6 is None:
        yield "media.advertise_ipv6: there is no media.address_ipv6 behind it"


def _families(where: str, section: Sip | Media) -> Iterator[str]:
    """IPv4 under the plain key, IPv6 under the one that says so."""
    for key in ("address", "advertise"):
        host, host_ipv6 = getattr(section, key, None), getattr(section, f"{key}_ipv6", None)
        if host is not None and ":" in host:
            yield f"{where}.{key}: {host} is not IPv4: it belongs to {where}.{key}_ipv6"
        if host_ipv6 is not None and ":" not in host_ipv6:
            yield f"{where}.{key}_ipv6: {host_ipv6} is not an IPv6 address"


def _ipv6(sip: Sip | None, media: Media, trunks: Sequence[Trunk | None]) -> Iterator[str]:
    """Signalling over IPv6 needs voice over IPv6, and a listener to send from."""
    listens = [str(listen) for listen in sip.listen if ":" in listen.host] if sip else []
    targets = [
        f"trunk[{index}].{key}"
        for index, trunk in enumerate(trunks)
        for key, uri in (trunk.targets if trunk else ())
        if ":" in uri.host
    ]
    if media.address_ipv6 is None and (listens or targets):
        where = listens[0] if listens else targets[0]
        yield f"media.address_ipv6 is missing: calls over IPv6 ({where}) could carry no voice"
    if sip is not None and targets and not listens:
        yield f"{targets[0]}: no address in sip.listen is IPv6"


def _outside(
    region: Region,
    sip: Sip | None,
    media: Media | None,
    http: Http | None,
    trunks: Sequence[Trunk | None],
) -> Iterator[str]:
    """Nothing that is configured may lie outside the region's networks."""
    single: list[tuple[str, str]] = []
    if sip is not None:
        single += [(f"sip.listen[{i}]", listen.host) for i, listen in enumerate(sip.listen)]
        servers = map(server_address, sip.dns.servers)
        single += [(f"sip.dns.servers[{i}]", host) for i, (host, _) in enumerate(servers)]
        for at, network in enumerate(sip.websocket.proxies):
            if not _inside(network, region.networks):
                yield _leaves(f"sip.websocket.proxies[{at}]", str(network), region)
    if media is not None:
        single += [("media.address", media.address)]
        single += [("media.address_ipv6", media.address_ipv6 or "")]
    if http is not None:
        single.append(("http.listen", http.address[0]))
    for index, trunk in enumerate(trunks):
        targets = trunk.targets if trunk else ()
        if trunk is not None and trunk.register_at is not None:
            registrar = SipUri.parse(trunk.register_at.registrar)
            targets = (*targets, ("register.registrar", registrar))
        for key, uri in targets:
            if is_numeric(uri.host):  # a name is looked up, and checked then, at each call
                single.append((f"trunk[{index}].{key}", uri.host))
        for at, network in enumerate(trunk.allow if trunk else ()):
            if not _inside(network, region.networks):
                yield _leaves(f"trunk[{index}].allow[{at}]", str(network), region)
    for where, host in single:
        if not host or ipaddress.ip_address(host).is_unspecified:
            continue
        if not _inside(ipaddress.ip_network(host), region.networks):
            yield _leaves(where, host, region)


def _kept_outside(region: Region, parts: Parts) -> Iterator[str]:
    """Where data is kept, and who is told of it; a name is checked when it is looked up."""
    places: list[tuple[str, str]] = []
    recording, database, audit = (parts.get(key) for key in ("recording", "database", "audit"))
    if recording is not None and recording.s3 is not None:
        places.append(("recording.s3.endpoint", recording.s3.endpoint))
    if database is not None and database.file is None:
        places.append(("database.url", database.url))
    if audit is not None:
        places += [(f"audit.anchors[{at}]", anchor) for at, anchor in enumerate(audit.anchors)]
    for where, url in places:
        host = urlsplit(url).hostname or ""
        if is_numeric(host) and not _inside(ipaddress.ip_network(host), region.networks):
            yield _leaves(where, host, region)


def _inside(network: Network, networks: Sequence[Network]) -> bool:
    first, last = network.network_address, network.broadcast_address
    return any(
        network.version == outer.version and first in outer and last in outer for outer in networks
    )


def _leaves(where: str, address: str, region: Region) -> str:
    return f"{where}: {address} is outside region.networks of {region.id}"


def _names(trunks: Sequence[Trunk | None]) -> Iterator[str]:
    first: dict[str, int] = {}
    for index, trunk in enumerate(trunks):
        if trunk is not None and first.setdefault(trunk.name, index) != index:
            yield f"trunk[{index}].name: {trunk.name!r} is trunk[{first[trunk.name]}] already"


def _networks(trunks: Sequence[Trunk | None]) -> Iterator[str]:
    """A network may lie within another trunk's (the smaller wins), never be the same."""
    owners: dict[Network, str] = {}
    for index, trunk in enumerate(trunks):
        for at, network in enumerate(trunk.allow if trunk else ()):
            where = f"trunk[{index}].allow[{at}]"
            owner = owners.setdefault(network, where)
            if owner != where:
                yield f"{where}: {network} is listed in {owner} already: whose calls are they?"


def _purpose(trunks: Sequence[Trunk | None]) -> Iterator[str]:
    for index, trunk in enumerate(trunks):
        if trunk is None or trunk.allow or trunk.credentials or trunk.targets:
            continue
        if trunk.tls_names:
            continue
        yield (
            f"trunk[{index}]: has neither allow nor credentials nor origination, so no call "
            "can use it"
        )


def _users(trunks: Sequence[Trunk | None]) -> Iterator[str]:
    """A user name stands for one trunk where no address tells them apart."""
    owners: dict[tuple[str, str], str] = {}
    for index, trunk in enumerate(trunks):
        for at, credential in enumerate(trunk.credentials if trunk else ()):
            where = f"trunk[{index}].credentials[{at}]"
            told_apart = trunk is not None and (trunk.allow or trunk.tls_names)
            known_by = trunk.name if trunk is not None and told_apart else ""
            owner = owners.setdefault((known_by, credential.username), where)
            if owner != where:
                yield f"{where}.username: {owner} has this name already"


def _tls_names(trunks: Sequence[Trunk | None]) -> Iterator[str]:
    owners: dict[str, str] = {}
    for index, trunk in enumerate(trunks):
        for at, name in enumerate(trunk.tls_names if trunk else ()):
            where = f"trunk[{index}].tls_names[{at}]"
            owner = owners.setdefault(name, where)
            if owner != where:
                yield f"{where}: {name} is listed in {owner} already: whose calls are they?"


def _secure(trunks: Sequence[Trunk | None], sip: Sip | None) -> Iterator[str]:
    """What is to come, or to be identified, over TLS needs a listener; what is to go, a URI."""
    listens = sip is None or any(listen.transport == "tls" for listen in sip.listen)
    for index, trunk in enumerate(trunks):
        if trunk is None:
            continue
        comes = trunk.tls_names or (trunk.secure and trunk.allow)
        if comes and not listens:
            key = "tls_names" if trunk.tls_names else "secure"
            yield f"trunk[{index}].{key}: nothing in sip.listen is tls: its calls could not come"
        for key, uri in trunk.targets if trunk.secure else ():
            if transport_to(uri) != "tls":
                yield (
                    f"trunk[{index}].{key}: {uri} is not TLS but the trunk is secure: use sips: "
                    "or ;transport=tls"
                )


def _routes(
    routes: Sequence[Route | None],
    trunks: Sequence[Trunk | None],
    trunk_names: Sequence[str],
    account_names: Sequence[str],
) -> Iterator[str]:
    names = [*trunk_names, *account_names]
    unusable = {
        trunk.name
        for trunk in trunks
        if trunk and not trunk.disaster_recovery and not any(e.enabled for e in trunk.origination)
    }
    for index, route in enumerate(routes):
        if route is None:
            continue
        for key, name in (("from", route.from_), ("to", route.to)):
            if name not in names:
                kind = "trunk or account" if account_names else "trunk"
                yield f"route[{index}].{key}: there is no {kind} {name!r}{_nearest(name, names)}"
        if route.identity is not None and route.to in trunk_names:
            yield f"route[{index}].identity: {route.to!r} is a trunk: only accounts have clients"
        if route.to in unusable:
            yield f"route[{index}].to: trunk {route.to!r} has no enabled origination"


def _accounts(
    accounts: Sequence[Account | None], sip: Sip | None, trunk_names: Sequence[str]
) -> Iterator[str]:
    """Names apart from all others, files that can be read, and a way in."""
    names: list[str] = []
    for index, account in enumerate(accounts):
        if account is None:
            continue
        where = f"account[{index}]"
        if account.name in trunk_names or account.name in names:
            yield f"{where}.name: {account.name!r} is there already"
        names.append(account.name)
        for at, key in enumerate(account.keys):
            try:
                key.read()
            except CertificateError as error:
                yield f"{where}.keys[{at}].public_key: {error}"
        try:
            if account.revoked is not None:
                read_revoked(account.revoked)
        except ValueError as error:
            yield f"{where}.revoked: {error}"
        if sip is not None and not any(each.transport in WEB_TRANSPORTS for each in sip.listen):
            yield f"{where}: nothing in sip.listen is ws: or wss:, so its clients cannot connect"


def _repeated(routes: Sequence[Route | None]) -> Iterator[str]:
    seen: dict[tuple[str, str], int] = {}
    for index, route in enumerate(routes):
        if route is not None:
            first = seen.setdefault((route.from_, route.number), index)
            if first != index:
                yield (
                    f"route[{index}].number: {route.number!r} from {route.from_!r} is "
                    f"route[{first}] already"
                )


def _nearest(name: str, names: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, names, 1, 0.5)
    if found:
        return f": did you mean {found[0]!r}?"
    return f"; there are {', '.join(names)}" if names else ""
