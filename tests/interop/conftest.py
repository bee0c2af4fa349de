"""What several of these tests need, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.probe.audio import speak
from tests.interop.region import need

SPOKEN = {"voices", "voice"}


def pytest_itemcollected(item: pytest.Item) -> None:
    """A phone that gets no processor in time says and hears less than it should: tests of what was
    heard run with nothing beside them."""
    if SPOKEN & set(getattr(item, "fixturenames", ())):
        item.add_marker("alone")


@pytest.fixture(scope="session")
def voices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A voice for each side, by its name."""
    need("espeak-ng")
    directory = tmp_path_factory.mktemp("voices")
    texts = {
        "caller": ("en-gb", "One two three, four five six."),
        "callee": ("en-us+f3", "Good day, hello?"),
    }
    made = {}
    for side, (voice, text) in texts.items():
        made[side] = directory / f"{side}.wav"
        speak(f"{text} Nobody on the way hears what the {side} says today.", voice, made[side])
    return made
