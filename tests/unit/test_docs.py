"""What the pages say exists: files, log events, drop codes, counters, make targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay import _native

ROOT = Path(__file__).parents[2]
PAGES = (
    *("README.md", "CHANGELOG.md", "docs/ARCHITECTURE.md"),
    *("docs/operating.md", "docs/trunks.md", "docs/clients.md", "docs/performance.md"),
    *("docs/residency.md", "docs/access.md", "docs/leaving.md", "docs/auditing.md"),
    *("docs/residency.md", "docs/access.md", "docs/leaving.md", "docs/auditing.md"),
    *("docs/residency.md", "docs/access.md", "docs/leaving.md", "docs/auditing.md"),
    *("docs/residency.md", "docs/access.md", "docs/leaving.md", "docs/auditing.md"),
    *("docs/residency.md", "docs/access.md", "docs/leaving.md", "docs/auditing.md"),
    *("docs/residency.md", "docs/access.md", "docs/leaving.md", "docs/auditing.md"),
)
OPERATING = (ROOT / "docs/operating.md").read_text("utf-8")
SOURCES = {path: path.read_text("utf-8") for path in sorted((ROOT / "relay").rglob("*.py"))}

_PATH = re.compile(r"`([a-z_0-9./]+(?:\.(?:md|py|pxd|pxi|toml|png)|/[a-z_0-9]+))`|\]\(([^)#:]+)\)")
_EVENT = re.compile(
    r'(?:\b_log|\b_alarm|\.event|\b_?log(?:ger)?\.(?:info|warning|error))\(\s*"([a-z_]+)"'
)
_COUNTER = re.compile(r'(?:counters\[|_count(?:ed)?\()f?"([a-z_]+)')
_CODE = re.compile(r"`([a-z_]+)`")
# Their names are chosen by an expression there.
CHOSEN = {
    "recording_saved": "call/calls.py",
    "recording_failed": "call/calls.py",
    "boundary_refused": "call/outside.py",
    "boundary_would_refuse": "call/outside.py",
}


def _section(heading: str) -> str:
    """The text of operating.md below a heading, up to the next one."""
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", OPERATING, re.M | re.S)
    assert found is not None, heading
    return found[1]


def _first_column(text: str) -> set[str]:
    """The `names` in the first column of a section's table."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in _CODE.findall(row)}


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    places = (ROOT, ROOT / "relay", ROOT / "native", (ROOT / page).parent)
    for match in _PATH.finditer(text):
        name = match[1] or match[2]
        found = [p / (name + ending) for p in places for ending in ("", ".py", ".pxd")]
        assert any(path.exists() for path in found), f"{page}: {name}"


def test_every_module_has_its_place_in_the_architecture() -> None:
    page = (ROOT / "docs/ARCHITECTURE.md").read_text("utf-8")
    for path in SOURCES:
        package, name = path.parent.name, path.stem
        if package != "relay" and name != "__init__":
            assert re.search(rf"`(?:{package}/)?{name}`", page), f"{package}/{name}"
    for path in (ROOT / "native").glob("*.p[xy]*"):
        assert f"`{path.name}`" in page, path.name


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_a_page_names_exists(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M):
        assert re.search(rf"^{target}:.*## ", makefile, re.M), f"{page}: make {target}"


def test_every_log_event_is_described_and_every_described_one_is_logged() -> None:
    logged = {name for text in SOURCES.values() for name in _EVENT.findall(text)}
    for name, where in CHOSEN.items():
        assert f'"{name}"' in SOURCES[ROOT / "relay" / where]
    assert _first_column(_section("The log")) == logged | set(CHOSEN)


def test_every_drop_code_is_described() -> None:
    assert _first_column(_section('"Why is there no audio?"')) == set(_native.DROP_NAMES) - {"none"}


def test_every_counter_is_described() -> None:
    told = _section("Counters")
    found = {name for text in SOURCES.values() for name in _COUNTER.findall(text)}
    worker = _native.Worker(-1)
    found |= {name for name in worker.counters() if not name.startswith("drop_")}
    assert found and {name for name in found if f"`{name}" not in told} == set()


def test_every_reason_to_refuse_a_token_is_described() -> None:
    told = (ROOT / "docs/clients.md").read_text("utf-8")
    modules = ("residency/claims", "call/tokens", "call/client_entry")
    source = "".join(SOURCES[ROOT / f"relay/{name}.py"] for name in modules)
    reasons = set(re.findall(r'TokenRefused\(\s*"([a-z_]+)"|"token_([a-z_]+)"', source))
    names = {first or second for first, second in reasons} | {"missing", "wrong", "stale"}
    assert {"malformed", "expired", "other_client"} <= names
    for page in (told, OPERATING):
        assert {name for name in names if f"`token_{name}`" not in page} == set()


def test_every_end_of_a_websocket_is_described() -> None:
    told = (ROOT / "docs/clients.md").read_text("utf-8")
    source = SOURCES[ROOT / "relay/signalling/websocket.py"]
    source += SOURCES[ROOT / "relay/signalling/upgrade.py"]
    refused = set(re.findall(r'(?:_refuse(?:\(|, )|return (?:host, )?)"([a-z_]+)"', source))
    cut = set(
        re.findall(r'_streams\.cut, self, "([a-z_]+)"|_streams\.cut\(self, "([a-z_]+)"', source)
    )
    assert {"origin", "too_many"} <= refused
    assert {name for name in refused if f"`ws_refused_{name}`" not in told} == set()
    names = {first or second for first, second in cut} | {"not_reading", "too_long"}
    assert {name for name in names if f"`ws_cut_{name}`" not in told} == set()


def test_every_refusal_that_the_page_explains_is_given() -> None:
    page = (ROOT / "docs/trunks.md").read_text("utf-8")
    table = page.partition("## What a refusal means")[2].partition("\n## ")[0]
    given = " ".join(SOURCES.values())
    for line in table.splitlines():
        if re.match(r"\| \d", line):
            text = line.split("|")[2].strip()
            for part in re.split("…|, |; ", text.removesuffix("…")):
                known = part.strip() in given or part.startswith(("no text", "Min-SE"))
                assert known, f"nothing says {part!r}"
