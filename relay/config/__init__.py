"""The TOML file of a region as frozen models."""

from relay.config.account import NUMBER, Account, TokenKey, VerifyingKey, read_revoked
from relay.config.models import (
    Config,
    Database,
    Dns,
    Http,
    Limits,
    Listen,
    Log,
    Media,
    Recording,
    Region,
    Sip,
    Tls,
    WebSocket,
)
from relay.config.peer import NumberRule, Peer
from relay.config.reading import EXAMPLE, example, load, notes, read
from relay.config.trunk import (
    Credential,
    Origination,
    Registration,
    Route,
    Trunk,
)
from relay.config.values import IDENTITY, Network, RecordingMode, server_address

__all__ = [
    "EXAMPLE",
    "IDENTITY",
    "NUMBER",
    "Account",
    "Config",
    "Credential",
    "Database",
    "Dns",
    "Http",
    "Limits",
    "Listen",
    "Log",
    "Media",
    "Network",
    "NumberRule",
    "Origination",
    "Peer",
    "Recording",
    "RecordingMode",
    "Region",
    "Registration",
    "Route",
    "Sip",
    "Tls",
    "TokenKey",
    "Trunk",
    "VerifyingKey",
    "WebSocket",
    "example",
    "load",
    "notes",
    "read",
    "read_revoked",
    "server_address",
]
