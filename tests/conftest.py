"""What holds for all tests: in CI (`.ci/run`) a skipped test fails the run."""

from __future__ import annotations

import os

import pytest

from relay.keys.ring import KeyRing


@pytest.fixture(scope="session")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    """A region's keys, which no test changes."""
    ring, _ = KeyRing.create(tmp_path_factory.mktemp("region") / "keys")
    return ring


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and os.environ.get("RELAY_NO_SKIPS"):
        reporter.write_line(f"RELAY_NO_SKIPS: {len(skipped)} skipped, which should have run")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
