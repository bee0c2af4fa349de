"""Reading a configuration file: either a `Config`, or every mistake in it at once.

Each section is validated by itself and what is valid is then checked against the rest,
so that as few mistakes as possible hide others.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from relay.config import crosschecks
from relay.config.certificate import WARN_DAYS, read_certificate
from relay.config.models import Config
from relay.errors import ConfigError
from relay.sip.uri import transport_to

EXAMPLE = "relay.example.toml (embedded)"
# Keys whose values never appear in a mistake.
SECRETS = ("password", "secret", "secret_key")
Change = Callable[[dict[str, Any]], None]
LISTED = ("trunk", "account", "route")  # sections that are there several times

# What a value should be, by pydantic's name of the problem; {key} is the last of the path.
_WRITTEN = {
    "int_type": "is a whole number, without quotes",
    "int_from_float": "is a whole number",
    "float_type": "is a number, without quotes",
    "bool_type": "is true or false, without quotes",
    "string_type": 'is text in quotes: "…"',
    "tuple_type": "is a list in brackets: {key} = [ … ]",
    "greater_than_equal": "is at least {ge}",
    "greater_than": "is more than {gt}",
    "less_than_equal": "is at most {le}",
    "too_long": "has at most {max_length} entries",
    "too_short": "is empty",
    "string_too_short": "is empty",
}


def load(path: str | Path) -> Config:
    """Read a file. Raises ConfigError with all mistakes."""
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), ["is not UTF-8 text"]) from None
    return read(text, str(path))


def example(change: Change | None = None) -> Config:
    """The laptop region that `relay serve` uses when no file is given; see `read`."""
    text = resources.files("relay").joinpath("example.toml").read_text("utf-8")
    return read(text, EXAMPLE, change)


def read(text: str, file: str, change: Change | None = None) -> Config:
    """Read TOML text; `file` is its name in mistakes. Raises ConfigError.

    `change` may add to what the file says before it is checked.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(file, [_not_toml(text, str(error))]) from None
    if change is not None:
        change(data)
    mistakes: list[str] = []
    parts = _parts(data, mistakes)
    mistakes += crosschecks.mistakes(data, parts)
    if mistakes:
        raise ConfigError(file, mistakes)
    return Config.model_validate(
        {key: tuple(part) if isinstance(part, list) else part for key, part in parts.items()}
    )


def _not_toml(text: str, said: str) -> str:
    """What the parser said, the line that it stopped at, and what it mostly means."""
    said = f"is not TOML: {said[0].lower()}{said[1:]}"
    lines = text.splitlines()
    found = re.search(r"\(at line (\d+)", said)
    if found is None or int(found[1]) > len(lines):
        return said
    line = lines[int(found[1]) - 1].partition(" #")[0].strip()
    if (heading := line.strip("[]")) in LISTED:
        return f"{said}: every {heading} begins with [[{heading}]]"
    live = [line for line in lines if not line.lstrip().startswith("#")]
    if any(word in line for line in live for word in SECRETS):
        return said  # the line may be a part of one
    hint = ": text stands in quotes" if "invalid value" in said else ""
    return f"{said}: {line}{hint}"


def notes(config: Config) -> list[str]:
    """What a valid configuration says that its author should know."""
    found = [
        f"trunk {trunk.name}: srtp without secure: keys that travel over UDP or TCP can be read"
        for trunk in config.trunk
        if trunk.srtp != "off" and not trunk.secure
    ]
    found += _expiry(config)
    if not any(listen.transport == "tls" for listen in config.sip.listen):
        found += [
            f"trunk {trunk.name} is called over TLS but nothing in sip.listen is tls: its own "
            "requests can only come over a connection that we opened"
            for trunk in config.trunk
            if any(transport_to(uri) == "tls" for _, uri in trunk.targets)
        ]
    routed = {route.from_ for route in config.route}
    found += [
        f"trunk {trunk.name} may call (allow) but no route begins at it"
        for trunk in config.trunk
        if trunk.known_by and trunk.name not in routed
    ]
    found += [
        f"trunk {trunk.name} registers us, but its calls are known by nothing: it has no allow"
        for trunk in config.trunk
        if trunk.register_at is not None and not trunk.known_by
    ]
    found += [
        f"account {account.name}: its clients may call but no route begins at it"
        for account in config.account
        if account.name not in routed
    ]
    if config.http is not None and not ipaddress.ip_address(config.http.address[0]).is_loopback:
        found.append(
            "http.listen is plain HTTP that other machines can reach: put a proxy with HTTPS "
            "before it, without which no browser gives the page its microphone"
        )
    found += [
        f"{listen} is plain: access tokens can be read on their way unless TLS ends before it"
        for listen in config.sip.listen
        if listen.transport == "ws" and not ipaddress.ip_address(listen.host).is_loopback
    ]
    if config.account and not config.sip.websocket.origins:
        found.append("sip.websocket.origins is empty: no browser's page may connect, only apps")
    if config.media.calls_that_fit < config.concurrent_calls:
        found.append(
            f"media.ports holds {config.media.calls_that_fit} calls, the peers' "
            f"concurrent_calls allow {config.concurrent_calls}: the ports run out first"
        )
    return found


def _expiry(config: Config) -> list[str]:
    """The certificate was checked already: what is left is how long it lasts."""
    tls = config.sip.tls
    if tls is None or tls.certificate is None or tls.key is None:
        return []
    certificate = read_certificate(tls.certificate, tls.key)
    days = certificate.days_left(datetime.now(UTC))
    if days >= WARN_DAYS:
        return []
    return [f"sip.tls: {tls.certificate} expires in {days:.0f} days"]


def _parts(data: Mapping[str, Any], mistakes: list[str]) -> dict[str, Any]:
    """Valid sections by name: a model, or a list that holds None for an invalid entry."""
    parts: dict[str, Any] = {}
    fields = Config.model_fields
    for key in data:
        if key not in fields:
            mistakes.append(_unknown(key, (), fields))
    for key, info in fields.items():
        model, listed = _model(info.annotation)
        if key not in data:
            if info.is_required():
                mistakes.append(f"{'[[' + key + ']]' if listed else '[' + key + ']'} is missing")
            continue
        if listed != isinstance(data[key], list):
            wanted = f"[[{key}]]" if listed else f"[{key}]"
            mistakes.append(f"{key}: is written as a section {wanted}")
        elif listed:
            parts[key] = [_one(model, item, (key, i), mistakes) for i, item in enumerate(data[key])]
        elif (part := _one(model, data[key], (key,), mistakes)) is not None:
            parts[key] = part
    return parts


def _model(annotation: Any) -> tuple[type[BaseModel], bool]:
    """The model of a section's annotation, and whether it is a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    model = next(kind for kind in get_args(annotation) if kind not in (type(None), ...))
    return model, getattr(annotation, "__origin__", None) is tuple


def _one(
    model: type[BaseModel], raw: Any, where: tuple[str | int, ...], mistakes: list[str]
) -> BaseModel | None:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        mistakes += [_explain(model, where, p) for p in problems if not _follows(p, problems)]
        return None


def _follows(problem: Any, problems: Sequence[Any]) -> bool:
    """A list is called too short when its entries are mistaken: say only the latter."""
    loc = problem["loc"]
    return problem["type"] == "too_short" and any(
        len(p["loc"]) > len(loc) and p["loc"][: len(loc)] == loc for p in problems
    )


def _explain(model: type[BaseModel], where: tuple[str | int, ...], problem: Any) -> str:
    loc, kind, value = problem["loc"], problem["type"], problem.get("input")
    path = _path((*where, *loc))
    if kind == "extra_forbidden":
        return _unknown(str(loc[-1]), (*where, *loc[:-1]), _fields_at(model, loc[:-1]))
    if kind == "missing":
        return f"{path} is missing"
    if kind == "literal_error":
        return f"{path}: {_literal(value, problem)}"
    if kind == "value_error":
        return f"{path}: {problem['ctx']['error']}"
    if kind == "string_pattern_mismatch":
        return f"{path}: {value!r} may hold letters, digits, '-', '_' and '.', 64 at most"
    shown = f" (it is {value!r})" if _may_show(loc, value) else ""
    if kind == "model_type" and "origination" in loc:
        return f'{path}: is written {{ uri = "sip:192.0.2.1:5060" }}{shown}'
    if kind in _WRITTEN:
        return f"{path}: {_WRITTEN[kind].format(key=loc[-1], **problem.get('ctx', {}))}{shown}"
    return f"{path}: {problem['msg']}{shown}"


def _literal(value: Any, problem: Any) -> str:
    expected = problem["ctx"]["expected"]
    choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
    return f"{value!r} is none of {', '.join(choices)}{_nearest(str(value), choices)}"


def _may_show(loc: tuple[str | int, ...], value: Any) -> bool:
    return isinstance(value, str | int | float) and not any(key in SECRETS for key in loc)


def _unknown(key: str, where: tuple[str | int, ...], fields: Mapping[str, Any]) -> str:
    names = [info.alias or name for name, info in fields.items()]
    near = _nearest(key, names) or _elsewhere(key, where) or f"; known are {', '.join(names)}"
    return f"{_path((*where, key))} is an unknown key{near}"


def _elsewhere(key: str, where: tuple[str | int, ...]) -> str:
    """The section that a key belongs to, where its heading was forgotten."""
    for name, info in Config.model_fields.items() if len(where) == 1 else ():
        model, listed = _model(info.annotation)
        if not listed and key in model.model_fields:
            return f": it belongs to [{name}]"
    return ""


def _nearest(word: str, words: Iterable[str]) -> str:
    found = difflib.get_close_matches(word.lower(), list(words), 1, 0.55)
    return f": did you mean {found[0]!r}?" if found else ""


def _fields_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> Mapping[str, Any]:
    """The fields of the model that a location inside `model` leads to."""
    for key in loc:
        if isinstance(key, str):
            model, _ = _model(model.model_fields[key].annotation)
    return model.model_fields


def _path(loc: Iterable[str | int]) -> str:
    path = ""
    for key in loc:
        path += f"[{key}]" if isinstance(key, int) else f".{key}" if path else key
    return path
