"""Two nodes of a region on one PostgreSQL, with the same keys and one store."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.keys.ring import KeyRing
from relay.probe.region import RegionSpec, TrunkSpec
from relay.probe.relay_process import RelayProcess
from tests.interop.postgres import PASSWORD, Cluster, cluster
from tests.interop.records import until
from tests.interop.region import DEADLINE_S, Party, need, parties
from tests.interop.sipp_run import PCAPS, Sipp, answering

RECORDED = {"recording": "record-from-answer-dual"}
PCAP = {"pcap": str(PCAPS / "g711a.pcap")}
BOTH = 2


@dataclass(slots=True)
class Node:
    """One of them, with a PBX and a carrier of its own."""

    relay: Party
    pbx: Party
    carrier: Party
    config: Path
    process: RelayProcess

    def restart(self) -> None:
        self.process = RelayProcess(self.config, self.config.with_name("again.log"))

    def caller(self, *options: str) -> Sipp:
        load = ("-m", "1", "-s", "+35315550199", *options, str(self.relay))
        return Sipp("pcap", self.pbx, load, PCAP).start()


@pytest.fixture
def server() -> Iterator[Cluster]:
    need("sipp")
    with cluster() as made:
        yield made.create("region")


def node(directory: Path, server: Cluster) -> Node:
    """Configured and started below a directory that has the region's keys, and their store."""
    directory.mkdir()
    shutil.copytree(directory.parent / "keys", directory / "keys")
    relay, pbx, carrier, _ = parties()
    trunks = (
        TrunkSpec("pbx", pbx.host, pbx.port, to="carrier", options=RECORDED),
        TrunkSpec("carrier", carrier.host, carrier.port),
    )
    spec = RegionSpec(relay.host, relay.port, trunks, directory.parent / "store")
    config = spec.write(directory / "relay.toml")
    embedded = f'url = "sqlite:{directory / "relay.db"}"'
    url = server.settings("region").url
    text = config.read_text()
    assert embedded in text
    config.write_text(text.replace(embedded, f'url = "{url}"\npassword = "{PASSWORD}"'))
    return Node(relay, pbx, carrier, config, RelayProcess(config, directory / "relay.log"))


def test_a_node_that_dies_ends_its_own_calls_and_none_of_the_other(
    tmp_path: Path, server: Cluster
) -> None:
    KeyRing.create(tmp_path / "keys")
    first, second = (node(tmp_path / name, server) for name in ("first", "second"))
    with ExitStack() as stack:
        for each in (first, second):
            stack.callback(lambda node=each: node.process.stop())
            each.process.wait("serving", DEADLINE_S)
            stack.enter_context(answering("uas_pcma", each.carrier))
        callers = [first.caller("-d", "30000"), second.caller("-d", "4000")]
        for caller in callers:
            stack.callback(caller.stop)
        open_ = until(second.config, lambda found: len(found) == BOTH)
        assert {record.ended for record in open_} == {None}
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.stop()
        first.restart()
        first.process.wait("recording_repaired", DEADLINE_S)
        result = callers[1].wait()
        assert (result.exit_code, result.successful) == (0, 1), result.errors
        over = until(second.config, lambda found: all(record.final for record in found))
    by_node = {record.node: record for record in over}
    assert len(by_node) == BOTH
    ended = {record.ended_by for record in over}
    assert ended == {"interrupted", "caller hung up"}
    for record in over:
        assert record.recording is not None
        assert (tmp_path / "store" / record.recording.object).exists()
        log = (first if record.ended_by == "interrupted" else second).process.log
        assert "Traceback" not in log.read_text()
