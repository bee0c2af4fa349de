"""What the offline verifiers have in common: public keys and a document, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from relay.commands.shared import MISTAKEN, failing
from relay.errors import ConfigError, KeyMissing
from relay.keys import pem
from relay.residency.signing import parsed

KeysOption = Annotated[
    list[Path],
    typer.Option("--key", metavar="FILE", help="Of `relay keys public`; may be repeated."),
]


@contextmanager
def mistaken() -> Iterator[None]:
    """A file that cannot be read is a mistake of who verifies, exit code 2: it proves nothing."""
    try:
        with failing():
            yield
    except typer.Exit:
        raise typer.Exit(MISTAKEN) from None


def public_keys(paths: Sequence[Path]) -> Mapping[str, Ed25519PublicKey]:
    """The keys of all these files, by their ids. Raises ConfigError: a mistake of who verifies."""
    try:
        return {name: key for path in paths for name, key in pem.read_public(path).items()}
    except KeyMissing as error:
        raise ConfigError("--key", [str(error)]) from None


def document(path: Path) -> Any:
    """What a file of JSON holds; whether that is what it should be is for the verifiers to say.
    Raises ConfigError."""
    try:
        return parsed(path.read_bytes())
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from None
    except ValueError as mistake:
        raise ConfigError(str(path), [f"cannot be read: {mistake}"]) from None
