"""The `relay` command. Exit codes: 0 done, 1 failed while running, 2 a mistake in the input."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from relay import __version__
from relay.archive import Archive
from relay.commands import audit as audit_command
from relay.commands import boundary as boundary_command
from relay.commands import calls as calls_command
from relay.commands import database as database_command
from relay.commands import erasing, export, holds, report
from relay.commands import grants as grants_command
from relay.commands import keys as keys_command
from relay.commands import receipt as receipt_command
from relay.commands import recordings as recordings_command
from relay.commands import region as region_command
from relay.commands import staff as staff_command
from relay.commands import store as store_command
from relay.commands.shared import (
    MISTAKEN,
    ConfigOption,
    JsonOption,
    failing,
    loaded,
    print_json,
    print_mistakes,
    stderr,
)
from relay.config import EXAMPLE, Config, example
from relay.control.demo_clients import add_demo_clients, links
from relay.errors import ConfigError, KeyMissing, ManifestRefused
from relay.probe import command as probe_command
from relay.summary import all_notes, print_summary, print_where_to_call, summary

# Calls that the embedded example takes as it is.
TRY = """Try it with SIPp in two other terminals, first the carrier, then the PBX:
  sipp -sn uas -i 127.0.0.3 -p 5070
  sipp -sn uac -i 127.0.0.2 -p 5080 -s +35315550199 -m 1 -d 3000 127.0.0.1:5060"""

app = typer.Typer(
    name="relay",
    help="A SIP/RTP relay for voice that stays in one legal region.",
    epilog="Examples:  relay check -c region.toml  ·  relay serve -c region.toml  ·  "
    "relay serve --demo-clients  ·  relay token --help\n\n"
    "Exit codes:  0 done  ·  1 failed while running  ·  2 a mistake in the input",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"relay {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """A SIP/RTP relay for voice that stays in one legal region."""


@app.command(
    epilog="Examples:  relay check --config region.toml  ·  relay check -c region.toml --json"
)
def check(
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain every mistake in a configuration, or sum it up.

    Without --config the embedded example is checked.

    Exit code 0: it can be served; 2: it has mistakes.
    """
    name = str(config) if config is not None else EXAMPLE
    try:
        found = loaded(config)
        _check_manifest(name, found)
    except ConfigError as error:
        if as_json:
            print_json(file=error.file, ok=False, mistakes=error.mistakes)
        else:
            print_mistakes(error)
        raise typer.Exit(MISTAKEN) from None
    if as_json:
        print_json(file=name, ok=True, mistakes=[], notes=all_notes(found), **summary(found))
    else:
        print_summary(Console(highlight=False), name, found)


@app.command(
    epilog="Examples:  relay serve  ·  relay serve --config region.toml  ·  "
    "relay serve --demo-clients"
)
def serve(
    config: ConfigOption = None,
    demo_clients: Annotated[
        bool,
        typer.Option(
            "--demo-clients", help="Two browser phones, with a link for each (no --config)."
        ),
    ] = False,
) -> None:
    """Serve a region until Ctrl-C.

    Without --config: a laptop region on 127.0.0.1:5060 with the settings of
    relay.example.toml. Ctrl-C or SIGTERM refuses new calls and gives running ones
    sip.drain_s seconds to end, then hangs up; a second one does not wait.

    Exit code 0: stopped; 1: could not start; 2: mistakes that `relay check` explains.
    """
    if demo_clients and config is not None:
        stderr().print("--demo-clients are of the laptop region: leave --config away")
        raise typer.Exit(MISTAKEN)
    try:
        region = example(add_demo_clients) if demo_clients else loaded(config)
    except ConfigError as error:
        print_mistakes(error)
        raise typer.Exit(MISTAKEN) from None
    # Imported here: `check` and --help work without the compiled engine.
    from relay.server import run

    if config is None:
        with failing():
            _make_keys(Archive(region))
    print_where_to_call(stderr(), region)
    if config is None:
        stderr().print(TRY, markup=False)
    if demo_clients:
        _print_links(links(region))
    raise typer.Exit(run(region))


@app.command(
    epilog="Examples:  relay token -c region.toml --account app --identity alice  ·  "
    "relay token -c region.toml --account app --identity bob --ttl 15m --no-out  ·  "
    "relay token --key app.key.pem --kid k2 --region ie1 --account app --identity alice"
)
def token(
    account: Annotated[str, typer.Option("--account", help="Whose client it is.")],
    identity: Annotated[str, typer.Option("--identity", help="Who the client is.")],
    ttl: Annotated[str, typer.Option("--ttl", help="How long: 90s, 15m, 1h … up to 24h.")] = "1h",
    out: Annotated[bool, typer.Option("--out/--no-out", help="It may call.")] = True,
    called: Annotated[bool, typer.Option("--in/--no-in", help="It may be called.")] = True,
    number: Annotated[
        str | None, typer.Option("--number", help="Who it is to a trunk, as +35315550111.")
    ] = None,
    config: ConfigOption = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="FILE", help="A private key (PEM), or an HS256 secret."),
    ] = None,
    kid: Annotated[
        str | None, typer.Option("--kid", help="The key's id; the account's first by default.")
    ] = None,
    region: Annotated[
        str | None, typer.Option("--region", help="For which region, without --config.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object with the token and its claims.")
    ] = False,
) -> None:
    """Make an access token for a voice client, on standard output.

    With --config the account's own key signs; ES256 needs its private key (--key)
    beside it. With --key alone, nothing else is read.

    Exit code 0: done; 2: a mistake, which it explains.
    """
    from relay.access_token import Wish, by_config, by_file

    try:
        if key is not None and config is None:
            signer = by_file(key, account, kid, region)
        else:
            name = str(config) if config is not None else EXAMPLE
            signer = by_config(loaded(config), account, name, kid, key)
        claims = Wish(identity, ttl, out, called, number).claims(signer, time.time())
    except ConfigError as error:
        print_mistakes(error)
        raise typer.Exit(MISTAKEN) from None
    made = signer.token(claims)
    if as_json:
        print_json(token=made, claims=claims)
    else:
        typer.echo(made)


@app.command(epilog="Examples:  relay demo  ·  relay demo --secure")
def demo(
    secure: Annotated[
        bool, typer.Option("--secure", help="The PBX speaks TLS and SRTP, the carrier neither.")
    ] = False,
) -> None:
    """Let two real SIP phones call each other through a region, and check it.

    What each side heard is compared with what the other said. Needs the extra:
    pip install 'regional-voice-relay\\[probe]'.

    Exit code 0: all of it held; 1: something did not, or it could not run.
    """
    try:
        from relay.probe.demo import run as run_demo
    except ImportError as error:
        stderr().print(
            f"The demo needs a package that is missing ({error.name}): "
            "pip install 'regional-voice-relay\\[probe]'"
        )
        raise typer.Exit(1) from None
    raise typer.Exit(run_demo(secure=secure))


app.add_typer(audit_command.app)
app.add_typer(keys_command.app)
app.add_typer(database_command.app)
app.add_typer(region_command.app)
app.add_typer(store_command.app)
app.add_typer(recordings_command.app)
app.add_typer(boundary_command.app)
for each in (calls_command, grants_command, receipt_command, staff_command):
    app.add_typer(each.app)
app.command(
    "erase",
    epilog="Examples:  relay erase --number +35315550111 --dry-run  ·  "
    "relay erase --number +35315550111 --reference DSR-17 -o certificate.json",
)(erasing.erase)
app.command("report", epilog="Example:  relay report --quarter 2026Q4 -o reports/")(report.report)
for group in (erasing.erasure_app, holds.app, erasing.retention_app, export.app):
    app.add_typer(group)
app.command("probe", epilog=probe_command.EPILOG)(probe_command.command)


def _check_manifest(name: str, config: Config) -> None:
    """Raises ConfigError for one that would not start."""
    try:
        Archive(config).check_manifest()
    except (KeyMissing, ManifestRefused) as error:
        raise ConfigError(name, [str(error)]) from None


def _make_keys(archive: Archive) -> None:
    """The laptop region has keys by itself; another's are made by its operator."""
    made = keys_command.created(archive)
    if made:
        stderr().print(f"Made {len(made)} keys for this region in {archive.keys.directory}.")


def _print_links(found: dict[str, str]) -> None:
    console = stderr()
    console.print("Open each link in a window of its own; they can call each other by name:")
    for identity, link in found.items():
        console.print(f"  [bold]{identity}[/]  {escape(link)}")
