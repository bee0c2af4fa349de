"""Identities and headers through a whole call; the rules themselves are in unit/test_identity."""

from __future__ import annotations

import pytest

from relay.sip.message import Request
from tests.scenario.world import PBX, RELAY, World, sdp

PAI = f'"Ann" <sip:+35315550100@{PBX}>'
OURS = f'"Ann" <sip:+35315550100@{RELAY}:5060>'


def received(world: World, **headers: str) -> Request:
    world.pbx.call(**headers)
    world.run_until(lambda: bool(world.carrier.got("INVITE")))
    assert not world.bugs
    return world.carrier.got("INVITE")[0]


@pytest.mark.parametrize("trusted", [True, False])
def test_privacy_follows_the_trust_in_the_callees_trunk(trusted: bool) -> None:
    world = World(pbx={"trusted": True}, carrier={"trusted": trusted})
    invite = received(world, P_Asserted_Identity=PAI, Privacy="id")
    assert invite.headers.get("P-Asserted-Identity") == (OURS if trusted else None)
    assert invite.headers.get("Privacy") == "id"
    assert ("anonymous" in str(invite.from_)) == (not trusted)
    assert (b"5550100" in invite.encode()) == trusted
    # What the carrier sees stays the same for the whole dialog.
    world.run_until(lambda: bool(world.carrier.acks))
    world.run(1.0)
    world.pbx.in_dialog("INVITE", sdp(PBX, 4002))
    world.run(1.0)
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)
    for request in (*world.carrier.requests, *world.carrier.acks):
        assert str(request.from_) == str(invite.from_)


def test_headers_of_the_list_cross_in_any_case_and_others_do_not() -> None:
    world = World(pass_headers=("X-Account", "Alert-Info"))
    invite = received(world, x_account="17", Alert_Info="<urn:alert:tone:internal>", X_Other="1")
    assert invite.headers.get("X-Account") == "17"
    assert invite.headers.get("Alert-Info") == "<urn:alert:tone:internal>"
    assert "X-Other" not in invite.headers


def test_an_identity_that_cannot_be_read_is_counted_and_the_call_goes_on() -> None:
    world = World(pbx={"trusted": True})
    invite = received(world, P_Asserted_Identity='"<sip:@>', Diversion=";;;", History_Info="<>")
    assert not {"P-Asserted-Identity", "Diversion", "History-Info"} & set(invite.headers.names())
    assert world.calls.counters["identity_dropped"] == 3
    world.run_until(lambda: bool(world.carrier.acks))
