"""What a configuration says of where data may be, and who may read it, as a manifest
(`residency/manifest`). No secret is in it; a file of a key is named by the SHA-256 of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relay.config.account import Account
from relay.config.models import Config
from relay.config.trunk import Trunk
from relay.residency.manifest import FORMAT


def manifest_of(config: Config, keys: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """`keys` are the ids of the region's keys in use, by purpose."""
    region, sip, media = config.region, config.sip, config.media
    return {
        "format": FORMAT,
        "region": {
            "id": region.id,
            "jurisdiction": region.jurisdiction,
            "entity": region.entity,
            "enforce": region.enforce,
        },
        "networks": sorted(map(str, region.networks)),
        "listen": sorted(map(str, sip.listen)),
        "http": config.http.listen if config.http else None,
        "proxies": sorted(map(str, sip.websocket.proxies)),
        "media": {
            "addresses": [host for host in (media.address, media.address_ipv6) if host],
            "ports": "{}-{}".format(*media.ports),
        },
        "advertised": sorted(
            {
                host
                for host in (
                    sip.advertise,
                    sip.advertise_ipv6,
                    media.advertise,
                    media.advertise_ipv6,
                )
                if host
            }
        ),
        "resolvers": sorted(sip.dns.servers) or ["the system's"],
        "trunks": {trunk.name: _trunk(trunk) for trunk in config.trunk},
        "accounts": {account.name: _account(account) for account in config.account},
        "recordings": _recordings(config),
        "database": {
            "url": config.database.url,
            "tls": config.database.tls,
            "ca": _file(config.database.ca),
            "queue": config.database.queue,
        },
        "audit": {"directory": config.audit.directory, "anchors": sorted(config.audit.anchors)},
        "log": {"to": "standard error", "level": config.log.level},
        "access": _access(config),
        "keys": {
            "directory": config.keys.directory,
            **{purpose: sorted(ids) for purpose, ids in keys.items()},
        },
    }


def _trunk(trunk: Trunk) -> dict[str, Any]:
    registrar = trunk.register_at.registrar if trunk.register_at else None
    return {
        "networks": sorted(map(str, trunk.allow)),
        "tls_names": sorted(trunk.tls_names),
        "targets": sorted({*(str(uri) for _, uri in trunk.targets), *filter(None, [registrar])}),
        "secure": trunk.secure,
        "srtp": "required" if trunk.secure else trunk.srtp,
        "symmetric_rtp": trunk.symmetric_rtp,
        **_recorded(trunk),
    }


def _account(account: Account) -> dict[str, Any]:
    keys = {key.id: _file(key.public_key) or key.algorithm for key in account.keys}
    return {"keys": keys, **_recorded(account)}


def _recorded(peer: Trunk | Account) -> dict[str, Any]:
    return {
        "recording": peer.recording,
        "recording_required": peer.recording_required,
        "recording_key": _file(peer.recording_key),
        "retention_days": peer.retention_days,
    }


def _recordings(config: Config) -> dict[str, Any]:
    recording = config.recording
    s3 = recording.s3
    return {
        "store": recording.store,
        "spool": recording.spool,
        "endpoint": s3.endpoint if s3 else None,
        "region": s3.region if s3 else None,
        "ca": _file(s3.ca) if s3 else None,
    }


def _access(config: Config) -> dict[str, Any]:
    access = config.access
    return {
        "jurisdictions": sorted(access.jurisdictions) or [config.region.jurisdiction],
        "approvals": access.approvals,
        "longest_grant_h": access.longest_grant_h,
        "keys": {
            key.id: {
                "public_key": _file(key.public_key),
                "jurisdictions": sorted(key.jurisdictions) or ["any"],
            }
            for key in access.keys
        },
    }


def _file(path: str | None) -> str | None:
    """What stands for a file; another one that cannot be read is another manifest, too."""
    if path is None:
        return None
    try:
        return f"sha256:{hashlib.sha256(Path(path).read_bytes()).hexdigest()}"
    except OSError as error:
        return f"{path}: {error.strerror}"
