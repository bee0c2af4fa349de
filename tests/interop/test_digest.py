"""Passwords both ways: SIPp and pjsua2 are challenged by us, Kamailio challenges us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.interop.region import need, region
from tests.interop.sipp_run import answering, assert_all, call

ACME = {"username": "acme", "password": "open sesame"}
OURS = ("-au", "acme", "-ap", "open sesame")
MD5 = {"digest_algorithms": ["MD5"]}  # SIPp 3.6 knows no other, and takes the first


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("sipp")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("more", [{}, {"allow": []}], ids=["and its address", "alone"])
def test_sipp_calls_with_a_password(tmp_path: Path, transport: str, more: dict[str, Any]) -> None:
    """A trunk known by its address and its password, or by its user name alone."""
    kind = ("-t", "t1" if transport == "tcp" else "u1")
    pbx = {"credentials": [ACME], **more}
    with (
        region(tmp_path, transport, pbx=pbx, sip=MD5) as r,
        answering("uas", r.carrier, *kind),
    ):
        assert_all(call("uac_digest", r.pbx, r.relay, *kind, *OURS, calls=20), 20)
        assert r.ended(20)["cause"] == "caller hung up"
    sip = r.process.wait("stopped", 1)["sip"]
    assert sip["digest_missing"] == 20
    assert "digest_wrong" not in sip and "digest_stale" not in sip


@pytest.mark.parametrize(
    ("user", "password"), [("acme", "wrong"), ("nobody", "open sesame"), ("acme", "")]
)
def test_sipp_with_a_wrong_password_is_challenged_again(
    tmp_path: Path, user: str, password: str
) -> None:
    with region(tmp_path, pbx={"credentials": [ACME]}, sip=MD5) as r:
        wrong = ("-au", user, "-ap", password)
        assert_all(call("uac_digest_wrong", r.pbx, r.relay, *wrong, values={"status": "407"}))
        told = r.process.wait("authentication_failed", 10)
        assert (told["trunk"], told["source"]) == ("pbx", r.pbx.host)
    assert r.process.wait("stopped", 1)["sip"]["digest_wrong"] == 1
