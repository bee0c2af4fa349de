"""What the relay itself refuses, as SIPp sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.region import Party, free_port, need, region
from tests.interop.sipp_run import Sipp, answering, assert_all, call, refused


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("sipp")


def test_an_unknown_source_gets_403(tmp_path: Path) -> None:
    """… and no call begins."""
    with region(tmp_path) as r:
        assert_all(refused(403, r.stranger, r.relay))
        assert not r.process.find("call_started")


def test_a_number_without_a_route_gets_404(tmp_path: Path) -> None:
    with region(tmp_path, numbers=("+353*",)) as r:
        assert_all(refused(404, r.pbx, r.relay, "-s", "+442079460000"))


def test_the_limit_of_concurrent_calls_is_named(tmp_path: Path) -> None:
    """One call stands; the next gets 503 with a text that names the limit."""
    with (
        region(tmp_path, pbx={"concurrent_calls": 1}) as r,
        answering("uas", r.carrier),
    ):
        load = ("-m", "1", "-d", "4000", "-s", "+35315550199", str(r.relay))
        standing = Sipp("uac", r.pbx, load).start()
        r.process.wait("call_answered")
        second = Party(r.pbx.host, free_port(r.pbx.host))
        assert_all(refused(503, second, r.relay, header="Warning", pattern="concurrent_calls"))
        assert_all(standing.wait())


def test_the_limit_of_calls_per_second_is_named(tmp_path: Path) -> None:
    """Far more calls a second than allowed: some succeed, the others get 503 at once."""
    with region(tmp_path, pbx={"calls_per_second": 5}) as r, answering("uas", r.carrier):
        result = call("uac", r.pbx, r.relay, "-d", "50", calls=60, rate=60)
        assert result.successful >= 5, result.errors
        assert result.failed >= 20, result.errors
        assert "SIP/2.0 503" in result.errors
        assert "calls_per_second" in result.errors
