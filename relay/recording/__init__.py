"""Writes recordings: from blocks of audio that the tap delivers to files and ledgers.

`recorder` implements the application's port; `writer` is the one thread that may block;
`wav` is the container, `encryption` what is between it and the `sink` where its octets go,
`envelope` whose it is, `ledger` what is known of a recording, `spool` the directory that they are
written in, `repair` what follows a crash. `store` is where closed recordings are found, on their
way there (`shipper`) or in their place.

A process that is killed loses at most the last second: audio is written within 910 ms of
its arrival (the block of 200 ms that it stands in, the reorder window of 400 ms, the drain
every 50 ms, the segment of 255 ms). What a machine's crash loses is up to its file system:
there is no fsync.
"""
