"""Test callers and the demonstration: never imported by the server (extra `[probe]`)."""
