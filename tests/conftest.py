"""What holds for all tests: in CI (`.ci/run`) a skipped test fails the run.

With `-n auto` several workers of pytest-xdist run them, each in a network of its own. Where the
machine gives no such network they run one after the other, and that is said.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from relay.keys.ring import KeyRing
from tests import workers

ONE_AFTER_THE_OTHER = pytest.StashKey[str]()


def pytest_xdist_auto_num_workers() -> int:
    return workers.how_many()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        workers.bring_up_loopback()
    elif config.option.tx and (why := workers.refusal()):
        config.option.tx, config.option.dist = [], "no"
        config.stash[ONE_AFTER_THE_OTHER] = why


def pytest_sessionstart(session: pytest.Session) -> None:
    if why := session.config.stash.get(ONE_AFTER_THE_OTHER, None):
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.write_line(f"one test after the other, no network for each worker: {why}")


def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    for spec in specs:
        spec.python = workers.interpreter()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> workers.Scheduler:
    config.option.loadscopereorder = False  # as they come: the long ones first
    return workers.Scheduler(config, log)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Octets name no test: random ones would differ from worker to worker."""
    return argname if isinstance(val, bytes) else None


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
