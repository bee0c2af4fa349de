"""The TOML file of a region as frozen models."""

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
)
from relay.config.reading import EXAMPLE, example, load, notes, read
from relay.config.trunk import (
    Credential,
    NumberRule,
    Origination,
    Registration,
    Route,
    Trunk,
)
from relay.config.values import Network, RecordingMode, server_address

__all__ = [
    "EXAMPLE",
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
    "Recording",
    "RecordingMode",
    "Region",
    "Registration",
    "Route",
    "Sip",
    "Tls",
    "Trunk",
    "example",
    "load",
    "notes",
    "read",
    "server_address",
]
