"""Application: what happens to a call. Decisions only; I/O is reached through `ports`."""
