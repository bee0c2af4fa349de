"""Two voice clients for the laptop region, so that a person can make a call at once.

Their account has a secret that is made at each start and kept nowhere: a link is good for as
long as this process lives, and for no other.
"""

from __future__ import annotations

import secrets
import socket
import time
from typing import Any

import jwt

from relay.config import Config

ACCOUNT = "demo"
CLIENTS = {"alice": "+35315550101", "bob": "+35315550102"}
WEBSOCKET = "ws:127.0.0.1:5070"
VALID_S = 12 * 3600
DEVICES = 20  # each is a page, and a file of the open-file limit


def add_demo_clients(data: dict[str, Any]) -> None:
    """Add to the laptop region as its file has it: the account, its listener, and its routes.

    Clients call each other by name and everybody else by number; trunks call their numbers.
    """
    sip, listen = data["sip"], data["http"]["listen"]
    sip["listen"].append(WEBSOCKET)
    sip["websocket"] = {"origins": [f"http://{listen}"]}
    data["region"]["networks"] += [f"{address}/32" for address in _own_addresses()]
    key = {"id": "start", "secret": secrets.token_urlsafe(32)}
    data.setdefault("account", []).append({"name": ACCOUNT, "keys": [key], "clients": DEVICES})
    routes = data["route"]
    outward = next(route["to"] for route in routes if route["number"] == "+*")
    callers = [ACCOUNT, *(trunk["name"] for trunk in data["trunk"])]
    routes += [
        {"from": caller, "number": number, "to": ACCOUNT, "identity": identity}
        for caller in callers
        for identity, number in CLIENTS.items()
    ]
    routes.append({"from": ACCOUNT, "number": "*", "to": ACCOUNT})
    routes.append({"from": ACCOUNT, "number": "+*", "to": outward})


def _own_addresses() -> list[str]:
    """Where a browser on this machine sends its voice from, even to 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # sends nothing, but a route is chosen
        except OSError:
            return []  # no network: then it is from 127.0.0.1
        return [asking.getsockname()[0]]


def links(config: Config, now: float | None = None) -> dict[str, str]:
    """The page for each client, its token in the fragment, which no server ever sees."""
    assert config.http is not None
    account = next(account for account in config.account if account.name == ACCOUNT)
    key = account.keys[0]
    assert key.secret is not None
    issued = int(time.time() if now is None else now)
    found = {}
    for identity, number in CLIENTS.items():
        claims = {
            "iss": account.name,
            "sub": identity,
            "region": config.region.id,
            "iat": issued,
            "nbf": issued,
            "exp": issued + VALID_S,
            "jti": secrets.token_hex(8),
            "out": True,
            "in": True,
            "number": number,
        }
        token = jwt.encode(
            claims, key.secret.get_secret_value(), key.algorithm, headers={"kid": key.id}
        )
        found[identity] = f"http://{config.http.listen}/#token={token}"
    return found
