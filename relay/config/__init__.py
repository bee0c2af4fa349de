"""The TOML file of a region as frozen models."""

from relay.config.models import (
    Config,
    Database,
    Http,
    Listen,
    Log,
    Media,
    Network,
    Origination,
    Recording,
    RecordingMode,
    Region,
    Route,
    Sip,
    Trunk,
)
from relay.config.reading import EXAMPLE, example, load, notes, read

__all__ = [
    "EXAMPLE",
    "Config",
    "Database",
    "Http",
    "Listen",
    "Log",
    "Media",
    "Network",
    "Origination",
    "Recording",
    "RecordingMode",
    "Region",
    "Route",
    "Sip",
    "Trunk",
    "example",
    "load",
    "notes",
    "read",
]
