"""Application: what happens to a call. Decisions only; I/O is reached through `ports`.

Begin with `call`; docs/ARCHITECTURE.md lists the modules in the order of a call's life.
"""
