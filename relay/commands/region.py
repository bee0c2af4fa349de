"""`relay region`: the manifest, as it is, as it is signed, and whether the two are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from relay.archive import Archive
from relay.commands.shared import (
    FAILED,
    ConfigOption,
    JsonOption,
    failing,
    loaded,
    not_there,
    print_json,
    stderr,
)
from relay.errors import KeyMissing, ManifestRefused
from relay.keys import pem
from relay.residency import manifest
from relay.residency.signing import signed

app = typer.Typer(
    name="region",
    help="The region's manifest: where its data may be, signed by who answers for it.",
    epilog="Examples:  relay region show -c region.toml  ·  relay region keygen officer  ·  "
    "relay region sign -c region.toml --key officer.key.pem  ·  relay region verify -c region.toml"
    "\n\nExit codes:  0 done  ·  1 failed, or not signed  ·  2 a mistake in the input",
    no_args_is_help=True,
)

KeyOption = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="The private key (PEM, Ed25519).")
]
PublicOption = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="The public key; by default the region's."),
]


@app.command(epilog="Examples:  relay region show -c region.toml")
@failing()
def show(config: ConfigOption = None) -> None:
    """Print the manifest that the configuration makes, as JSON.

    Its digest, the version of the policy in records and receipts, and whether it is signed go
    to standard error.
    """
    archive = Archive(loaded(config))
    typer.echo(_written(archive.manifest))
    stderr().print(f"policy {archive.policy}: {escape(_standing(archive))}")


@app.command(
    epilog="Examples:  relay region keygen officer  makes officer.key.pem, officer.pub.pem"
)
@failing()
def keygen(
    name: Annotated[str, typer.Argument(help="The files are NAME.key.pem, NAME.pub.pem.")],
) -> None:
    """Make the key pair of who signs manifests. Keep the private half away from the nodes."""
    private, public = Path(f"{name}.key.pem"), Path(f"{name}.pub.pem")
    not_there(private, public)
    made = pem.create(private, public)
    typer.echo(f"{made}: {private} signs, {public} is region.signing_key of the configuration")


@app.command(
    epilog="Examples:  relay region sign -c region.toml --key officer.key.pem -o manifest.json"
)
@failing()
def sign(
    key: KeyOption,
    config: ConfigOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="By default region.manifest."),
    ] = None,
) -> None:
    """Sign what the configuration makes. Read `relay region show` first: it is your signature.

    What differs from the file that was there is printed.
    """
    archive = Archive(loaded(config))
    region = archive.config.region
    path = output or (Path(region.manifest) if region.manifest else None)
    if path is None:
        raise ManifestRefused("there is no region.manifest in the configuration: say --output FILE")
    signer = pem.read_private(key)
    if region.signing_key is not None and signer.key_id not in pem.read_public(region.signing_key):
        raise ManifestRefused(f"{key} is not the key whose public half is {region.signing_key}")
    before = _before(path)
    path.write_text(_written(signed(archive.manifest, signer)) + "\n", "utf-8")
    for line in manifest.differences(before, archive.manifest) if before is not None else ():
        typer.echo(f"changed: {line}")
    typer.echo(f"{path}: policy {archive.policy} signed by {signer.key_id}")


@app.command(
    epilog="Examples:  relay region verify -c region.toml  ·  "
    "relay region verify manifest.json --key officer.pub.pem"
)
@failing()
def verify(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A signed manifest, alone.")
    ] = None,
    key: PublicOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a signed manifest, offline: with FILE and --key nothing else is read.

    Without FILE the one of the configuration, which must say the same as the configuration.
    """
    if file is not None and key is not None:
        document = manifest.parse(_octets(file))
        by, policy = manifest.verify(document, pem.read_public(key)), manifest.digest(document)
    elif file is not None or key is not None:
        raise ManifestRefused("say FILE and --key, or neither of them")
    else:
        archive = Archive(loaded(config))
        by, policy = archive.check_manifest(), archive.policy
    if as_json:
        print_json(ok=bool(by), signed_by=by, policy=policy)
    else:
        typer.echo(f"policy {policy} " + (f"is signed by {by}" if by else "is not signed"))
    if not by:
        raise typer.Exit(FAILED)


def _standing(archive: Archive) -> str:
    try:
        by = archive.check_manifest()
    except (ManifestRefused, KeyMissing) as error:
        return f"a node would not start: {error}"
    return f"signed by {by}" if by else "not signed, and no region.signing_key wants it to be"


def _before(path: Path) -> dict[str, Any] | None:
    """What was signed last, to be compared."""
    try:
        document = manifest.parse(path.read_bytes())
    except (OSError, ManifestRefused):
        return None
    document.pop("signature", None)
    return document


def _octets(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ManifestRefused(f"{path}: {error.strerror}") from None


def _written(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
