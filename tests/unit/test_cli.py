"""The `relay` command line."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import jwt
import pytest
from typer.testing import CliRunner, Result

from relay import __version__
from relay.cli import app
from relay.config import Config, example, notes
from tests.unit.test_account_config import KEY
from tests.unit.test_account_config import text as account_text

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "relay.example.toml"


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).invoke(
        app, list(arguments)
    )


@pytest.fixture
def mistaken(tmp_path: Path) -> Path:
    path = tmp_path / "region.toml"
    text = EXAMPLE.read_text("utf-8")
    path.write_text(
        text.replace("jurisdiction =", "jurisdicton =").replace('to = "carrier"', 'to = "carier"')
    )
    return path


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Stands for the server: keeps the configurations that it was run with.

    Elsewhere: the laptop region makes its keys below the working directory.
    """
    monkeypatch.chdir(tmp_path)
    configs: list[Config] = []
    server = ModuleType("relay.server")

    def fake_run(config: Config) -> int:
        configs.append(config)
        return 7

    server.run = fake_run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "relay.server", server)
    return configs


def test_the_version_is_printed_alone() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"relay {__version__}\n")


COMMANDS = [
    "",
    *(
        str(each.name or each.callback.__name__)
        for each in app.registered_commands
        if each.callback
    ),
    *(str(each.typer_instance.info.name) for each in app.registered_groups if each.typer_instance),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"relay {command}".strip() in result.stdout
    assert "Example" in result.stdout


def test_check_sums_up_a_good_file() -> None:
    result = run("check", "--config", str(EXAMPLE))
    assert result.exit_code == 0, result.output
    for text in ("no mistakes", "ie1", "acme", "sip:127.0.0.3:5070", "+35315550100"):
        assert text in result.stdout
    assert "http://127.0.0.1:8080/health" in result.stdout


def test_check_explains_every_mistake_and_exits_with_2(mistaken: Path) -> None:
    result = run("check", "--config", str(mistaken))
    assert result.exit_code == 2
    assert f"{mistaken}: 3 mistakes" in result.stderr
    assert "region.jurisdicton is an unknown key: did you mean 'jurisdiction'?" in result.stderr
    assert "route[0].to: there is no trunk 'carier': did you mean 'carrier'?" in result.stderr


def test_check_as_json(mistaken: Path) -> None:
    good = json.loads(run("check", "--config", str(EXAMPLE), "--json").stdout)
    assert good["ok"] is True and good["mistakes"] == [] and good["concurrent_calls"] == 2000
    result = run("check", "--config", str(mistaken), "--json")
    assert result.exit_code == 2
    bad = json.loads(result.stdout)
    assert bad["ok"] is False and bad["file"] == str(mistaken) and len(bad["mistakes"]) == 3


def test_check_without_a_file_checks_the_embedded_example() -> None:
    result = run("check")
    assert result.exit_code == 0
    assert "embedded" in result.stdout


def test_check_of_a_missing_file(tmp_path: Path) -> None:
    result = run("check", "-c", str(tmp_path / "none.toml"))
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


def test_serve_refuses_what_check_refuses(mistaken: Path, served: list[Config]) -> None:
    result = run("serve", "--config", str(mistaken))
    assert result.exit_code == 2
    assert result.stderr == run("check", "--config", str(mistaken)).stderr
    assert not served


def test_serve_runs_the_server_and_ends_with_its_exit_code(served: list[Config]) -> None:
    result = run("serve", "--config", str(EXAMPLE))
    assert result.exit_code == 7
    assert served == [example()]
    assert "sip:+15550100@127.0.0.1:5060;transport=udp" in result.stderr
    assert "as trunk acme from 127.0.0.2/32" in result.stderr
    assert "+* goes to carrier at sip:127.0.0.3:5070" in result.stderr
    assert "sipp" not in result.stderr  # its addresses are the example's


def test_serve_without_a_file_serves_the_laptop_region_and_says_how_to_call_it(
    served: list[Config],
) -> None:
    """What it prints is what the example routes, and what the README shows."""
    result = run("serve")
    assert served == [example()]
    commands = [line.strip() for line in result.stderr.splitlines() if "sipp -sn" in line]
    carrier, pbx = (trunk.origination[0].sip_uri for trunk in reversed(example().trunk))
    assert f"-i {carrier.host} -p {carrier.port}" in commands[0]
    assert f"-i {pbx.host} -p {pbx.port}" in commands[1]
    readme = (ROOT / "README.md").read_text("utf-8")
    assert all(command in readme for command in commands)


def test_serve_with_demo_clients_prints_a_link_for_each(served: list[Config]) -> None:
    """Each start has a secret of its own, which signed what is in the links."""
    results = [run("serve", "--demo-clients") for _ in range(2)]
    secrets = []
    for config, result in zip(served, results, strict=True):
        account = config.account[0]
        assert account.keys[0].secret is not None
        secrets.append(account.keys[0].secret.get_secret_value())
        links = re.findall(r"(\w+) +(http://127.0.0.1:8080/#token=(\S+))", result.stderr)
        assert [identity for identity, _, _ in links] == ["alice", "bob"]
        for identity, _, token in links:
            claims = jwt.decode(token, secrets[-1], ["HS256"], issuer=account.name)
            assert (claims["sub"], claims["region"]) == (identity, "ie1")
        assert secrets[-1] not in result.output
        assert config.client_urls == ("ws://127.0.0.1:5070",)
        assert config.sip.websocket.origins == ("http://127.0.0.1:8080",)
        assert notes(config) == notes(example())  # nothing that a user must know
    assert secrets[0] != secrets[1]
    assert "+35315550101 goes to alice of demo" in results[0].stderr


def test_demo_clients_are_of_the_laptop_region_only(served: list[Config]) -> None:
    result = run("serve", "--demo-clients", "--config", str(EXAMPLE))
    assert result.exit_code == 2 and "--config" in result.stderr
    assert not served


@pytest.mark.parametrize(("command", "codes"), [("", "012"), ("serve", "012"), ("check", "02")])
def test_help_lists_the_exit_codes(command: str, codes: str) -> None:
    said = run(*command.split(), "--help").stdout.partition("Exit code")[2]
    assert all(re.search(rf"\b{code}\b", said) for code in codes)


def test_demo_ends_with_the_exit_code_of_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    demo = ModuleType("relay.probe.demo")
    demo.run = lambda secure: 4 if secure else 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "relay.probe.demo", demo)
    assert run("demo").exit_code == 3
    assert run("demo", "--secure").exit_code == 4


def test_demo_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "relay.probe.demo", None)
    result = run("demo")
    assert result.exit_code == 1
    assert "regional-voice-relay[probe]" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("built", "transcode", "told"),
    [(True, "true", False), (False, "true", True), (False, "false", False)],
)
def test_check_says_that_a_build_cannot_transcode(
    built: bool, transcode: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.media.engine.TRANSCODES", built)
    path = tmp_path / "region.toml"
    path.write_text(account_text(f'name = "app"\n{KEY}\ntranscode = {transcode}\n'))
    for options in ((), ("--json",)):
        shown = run("check", "-c", str(path), *options)
        assert shown.exit_code == 0
        assert ("account app: this build has no libopus" in shown.stdout) is told
