"""relay/_native.pyi says what the built extension really has."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from relay import _native

STUB = Path(__file__).resolve().parents[2] / "relay/_native.pyi"
TREE = ast.parse(STUB.read_text())


def names(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


def classes() -> list[str]:
    return [name for name, node in names(TREE.body).items() if isinstance(node, ast.ClassDef)]


def test_the_module_has_what_the_stub_names_and_nothing_more() -> None:
    built = {
        name
        for name, value in vars(_native).items()
        if not name.startswith("_") and getattr(value, "__module__", "relay._native") != "builtins"
    }
    assert built == {name for name in names(TREE.body) if not name.startswith("_")}


@pytest.mark.parametrize("name", classes())
def test_a_class_has_what_the_stub_names_and_nothing_more(name: str) -> None:
    node = names(TREE.body)[name]
    assert isinstance(node, ast.ClassDef)
    stub = {member for member in names(node.body) if not member.startswith("_")}
    built = {member for member in vars(getattr(_native, name)) if not member.startswith("_")}
    assert built == stub


def test_drop_names_are_distinct_words() -> None:
    assert len(set(_native.DROP_NAMES)) == len(_native.DROP_NAMES)
    assert all(name.replace("_", "").isalpha() for name in _native.DROP_NAMES)


def test_calls_with_the_stub_s_keywords_are_understood() -> None:
    stats = _native.Stats()
    stats.feed(ssrc=1, sequence=1, timestamp=1, octets=1, now_ns=1, clock_hz=8000, timed=True)
    wake = os.eventfd(0)
    worker = _native.Worker(
        wake_fd=wake, idle_timeout_s=1.0, latch_networks=[], tap=None, nap_us=0, nap_from=2
    )
    worker.start()
    flows = worker.open(
        number=1,
        caller_host="127.1.0.1",
        caller_port=19990,
        callee_host="127.1.0.1",
        callee_port=19992,
    )
    flows.update(
        side=0,
        host=None,
        port=0,
        rtcp_port=0,
        payload_types=[0],
        telephone_event=-1,
        clock_hz=8000,
        may_send=True,
        may_receive=True,
        symmetric=False,
    )
    flows.record(on=False, tap=0)
    with pytest.raises(ValueError, match="out of range"):
        flows.update(0, None, 0, 0, [128])
    with pytest.raises(ValueError, match="out of range"):
        flows.figures(2)
    flows.close()
    worker.stop()
    with pytest.raises(RuntimeError):
        worker.start()
    os.close(wake)
