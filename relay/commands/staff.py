"""`relay staff`: tokens of staff, as who knows the staff issues them, and the keys that sign."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Annotated, Any

import jwt
import typer
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from relay.access.roles import Role
from relay.access_token import private_key, seconds_of
from relay.commands.shared import ConfigOption, failing, loaded, not_there, print_json
from relay.config import IDENTITY, Config
from relay.errors import ConfigError
from relay.keys import pem
from relay.residency.claims import STAFF_TYPE

app = typer.Typer(
    name="staff",
    help="Tokens of staff: who reads what is kept, under whose law, in which roles.",
    epilog="Examples:  relay staff key --private staff.key.pem --public staff.pub.pem  ·  "
    "relay staff token -c region.toml --key staff.key.pem --name maeve --role reviewer\n\n"
    "Exit codes:  0 done  ·  1 failed  ·  2 a mistake in the input",
    no_args_is_help=True,
)


@app.command()
def token(
    name: Annotated[str, typer.Option("--name", help="Who it is, as the audit log names them.")],
    role: Annotated[list[Role], typer.Option("--role", help="What they do; may be repeated.")],
    key: Annotated[str, typer.Option("--key", metavar="FILE", help="The private key (PEM).")],
    jurisdiction: Annotated[
        str | None, typer.Option("--jurisdiction", help="Whose law; the region's by default.")
    ] = None,
    ttl: Annotated[str, typer.Option("--ttl", help="How long: 15m, 1h … up to 24h.")] = "8h",
    kid: Annotated[
        str | None, typer.Option("--kid", help="The key's id; found by the key by default.")
    ] = None,
    config: ConfigOption = None,
    region: Annotated[
        str | None, typer.Option("--region", help="For which region, without --config.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object with the token and its claims.")
    ] = False,
) -> None:
    """Make a token for somebody of staff, on standard output.

    With --config the region is its, and the key must be one of its `access.keys`. Without,
    give --region, --jurisdiction and --kid.
    """
    with failing():
        private = private_key(key)
        if config is not None or region is None:
            known = loaded(config)
            kid = _kid(known, str(config or "the example"), private.public_key(), kid)
            region = known.region.id
            jurisdiction = jurisdiction or known.region.jurisdiction
        claims = _claims(name, role, jurisdiction, region, kid, ttl)
    made = jwt.encode(claims, private, "ES256", headers={"kid": kid, "typ": STAFF_TYPE})
    print_json(token=made, claims=claims) if as_json else typer.echo(made)


@app.command("key")
def make_key(
    private: Annotated[Path, typer.Option("--private", metavar="FILE", help="The private half.")],
    public: Annotated[Path, typer.Option("--public", metavar="FILE", help="The public half.")],
) -> None:
    """Make a key pair (P-256). Its private half signs tokens and stays with who issues them; its
    public half is for `access.keys`."""
    not_there(private, public)
    with failing():
        pem.write_pair(generate_private_key(SECP256R1()), private, public)


def _kid(config: Config, file: str, public: Any, wanted: str | None) -> str:
    """Of the key that the region knows it by. Raises ConfigError, CertificateError."""
    for each in config.access.keys:
        if each.read() == public and wanted in (None, each.id):
            return each.id
    there = ", ".join(each.id for each in config.access.keys) or "none"
    raise ConfigError(file, [f"[access] keys has no such key (keys: {there})"])


def _claims(
    name: str,
    roles: list[Role],
    jurisdiction: str | None,
    region: str,
    kid: str | None,
    ttl: str,
) -> dict[str, Any]:
    lasts_s = seconds_of(ttl)
    mistakes = [
        f"{option} is needed with --region"
        for option, value in (("--jurisdiction", jurisdiction), ("--kid", kid))
        if not value
    ]
    if IDENTITY.fullmatch(name) is None:
        mistakes.append(f"--name: {name!r} is not of letters, digits, . _ and -")
    if lasts_s is None:
        mistakes.append(f"--ttl: {ttl!r} is not 90s, 15m, 1h … up to 24h")
    if mistakes or lasts_s is None:
        raise ConfigError("relay staff token", mistakes)
    issued = int(time.time())
    return {
        "sub": name,
        "region": region,
        "jurisdiction": jurisdiction,
        "roles": [each.value for each in dict.fromkeys(roles)],
        "iat": issued,
        "exp": issued + lasts_s,
        "jti": secrets.token_hex(8),
    }
