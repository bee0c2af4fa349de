"""SIPp at several addresses of one trunk: silent, unavailable, busy, moved, and the last resort."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.region import Party, free_port, need, parties, region
from tests.interop.sipp_run import Sipp, answering, assert_all, call, refused, wait_listening

OUTSIDE = "198.51.100.9"


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("sipp")


def more(everyone: list[Party], count: int) -> list[Party]:
    """Addresses of the carrier beside its first."""
    net = everyone[0].host.rpartition(".")[0]
    return [Party(host, free_port(host)) for host in (f"{net}.{20 + n}" for n in range(count))]


def at(*places: Party, **options: Any) -> dict[str, Any]:
    """The carrier's originations, in this order."""
    found = [{"uri": f"sip:{place}", "priority": n} for n, place in enumerate(places)]
    return {"origination": found, **options}


@contextmanager
def deaf(own: Party) -> Iterator[None]:
    """Takes datagrams and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((own.host, own.port))
        yield


@contextmanager
def moved(own: Party, contact: str) -> Iterator[Sipp]:
    sipp = Sipp("uas_moved", own, (), {"contact": contact}).start()
    try:
        wait_listening(own, sipp)
        yield sipp
    finally:
        sipp.stop()


def test_silent_then_unavailable_then_the_one_that_answers(tmp_path: Path) -> None:
    """The call is up four seconds later, with voice from the third address."""
    everyone = parties()
    silent, full = more(everyone, 2)
    carrier = everyone[2]
    with (
        region(tmp_path, everyone=everyone, carrier=at(silent, full, carrier)) as r,
        deaf(silent),
        answering("uas_unavailable", full),
        answering("uas", carrier),
    ):
        started = time.monotonic()
        assert_all(call("uac", r.pbx, r.relay, "-d", "100"))
        assert 4.0 < time.monotonic() - started < 7.0
        assert r.ended()["cause"] == "caller hung up"
        failed = r.process.find("attempt_failed")
        assert [line["status"] for line in failed] == [408, 503]
        assert failed[0]["target"] == str(silent)


def test_a_refused_connection_fails_over_at_once(tmp_path: Path) -> None:
    """Nothing listens at the first address, over TCP."""
    everyone = parties()
    (gone,) = more(everyone, 1)
    carrier = everyone[2]
    origination = [
        {"uri": f"sip:{gone};transport=tcp", "priority": 1},
        {"uri": f"sip:{carrier}", "priority": 2},
    ]
    with (
        region(tmp_path, everyone=everyone, carrier={"origination": origination}) as r,
        answering("uas", carrier),
    ):
        started = time.monotonic()
        assert_all(call("uac", r.pbx, r.relay, "-d", "100"))
        assert time.monotonic() - started < 3.0
        assert r.process.wait("attempt_failed")["status"] == 503


def test_busy_is_an_answer(tmp_path: Path) -> None:
    everyone = parties()
    (busy,) = more(everyone, 1)
    with (
        region(tmp_path, everyone=everyone, carrier=at(busy, everyone[2])) as r,
        answering("uas_busy", busy),
        answering("uas", r.carrier),
    ):
        assert_all(refused(486, r.pbx, r.relay))
        r.ended()
        assert not r.process.find("attempt_failed")


def test_the_last_resort_is_called_when_all_have_failed(tmp_path: Path) -> None:
    everyone = parties()
    full, last = more(everyone, 2)
    carrier = at(full, disaster_recovery=f"sip:{last}")
    with (
        region(tmp_path, everyone=everyone, carrier=carrier) as r,
        answering("uas_unavailable", full),
        answering("uas", last),
    ):
        assert_all(call("uac", r.pbx, r.relay, "-d", "100"))


def test_when_all_have_failed_the_best_response_reaches_the_caller(tmp_path: Path) -> None:
    """503 of a peer, with its Retry-After, rather than our 408 for the silent one."""
    everyone = parties()
    silent, full = more(everyone, 2)
    carrier = at(full, silent, full, try_next_after_s=0.5)
    with (
        region(tmp_path, everyone=everyone, carrier=carrier) as r,
        deaf(silent),
        answering("uas_unavailable", full),
    ):
        assert_all(refused(503, r.pbx, r.relay, header="Retry-After", pattern="30"))


def test_a_redirect_is_followed_inside_the_region(tmp_path: Path) -> None:
    everyone = parties()
    (old,) = more(everyone, 1)
    new = everyone[2]
    with (
        region(tmp_path, everyone=everyone, carrier=at(old)) as r,
        moved(old, f"<sip:+35315550177@{new}>"),
        answering("uas", new),
    ):
        assert_all(call("uac", r.pbx, r.relay, "-d", "100"))
        assert r.process.wait("call_redirected")["to"] == new.host


def test_a_redirect_out_of_the_region_is_refused(tmp_path: Path) -> None:
    everyone = parties()
    (old,) = more(everyone, 1)
    with (
        region(tmp_path, everyone=everyone, carrier=at(old)) as r,
        moved(old, f"<sip:+35315550177@{OUTSIDE}>"),
    ):
        pattern = "redirected the call elsewhere: it is outside the region"
        assert_all(refused(403, r.pbx, r.relay, header="Warning", pattern=pattern))
        assert r.process.wait("boundary_refused")["host"] == OUTSIDE


def test_an_address_goes_down_and_comes_back(tmp_path: Path) -> None:
    """OPTIONS every second: nobody answers, calls avoid it; then SIPp does, and it is up."""
    everyone = parties()
    (first,) = more(everyone, 1)
    last = everyone[2]
    carrier = at(first, last, health_check_s=1.0, try_next_after_s=0.5)
    with region(tmp_path, everyone=everyone, carrier=carrier) as r:
        with deaf(first), answering("uas_options", last):
            r.process.wait("target_state", state="down", uri=f"sip:{first}")
        with deaf(first), answering("uas", last):
            assert_all(call("uac", r.pbx, r.relay, "-d", "100"))
            assert not r.process.find("attempt_failed")
        with answering("uas_options", first):
            r.process.wait("target_state", state="up", uri=f"sip:{first}")
