"""Writes recordings: from blocks of audio that the tap delivers to files and ledgers.

`recorder` implements the application's port; `writer` is the one thread that may block;
`wav` is the container, `sink` where its octets go, `ledger` what is known of a recording,
`spool` the directory they are written in: names, permissions, and the repair after a crash.
`store` is where closed recordings are found, on their way there or in their place.

A process that is killed loses at most the last second: audio is written within 900 ms of
its arrival (the block of 400 ms that it stands in, the reorder window of 400 ms, the drain
every 100 ms). What a machine's crash loses is up to its file system: there is no fsync.
"""
