"""A peer that requires its calls to be recorded has none that are not."""

from __future__ import annotations

import pytest

from relay.call.recording import policy_of
from relay.config import Trunk
from tests.scenario.test_call import answered
from tests.scenario.test_transfer import Transferred
from tests.scenario.world import CARRIER, PBX, World, sdp

REQUIRED = {"recording": "record-from-answer-dual", "recording_required": True}
MISSING = "var/keys/recordings.json: No such file or directory"
TEXT = "this call must be recorded and cannot be"


def test_without_a_key_it_is_refused_before_anything_is_set_up() -> None:
    for keys in ({"pbx": REQUIRED}, {"carrier": REQUIRED}):
        world = World(**keys)  # type: ignore[arg-type]
        world.recorder.problem = MISSING
        world.pbx.call()
        world.run_until(lambda world=world: world.calls.idle)  # type: ignore[misc]
        world.run(1)
        response = world.pbx.responses[-1]
        assert (response.status, response.headers.get("Warning")) == (503, f'399 relay "{TEXT}"')
        assert not world.carrier.got("INVITE") and not world.media.calls
        assert set(world.admission.live.values()) == {0}
        refused = world.journal.last("call_refused")
        assert MISSING in str(refused) and MISSING not in str(response.headers.get("Reason"))


@pytest.mark.parametrize("problem", ["", MISSING])
def test_a_call_that_may_go_without_goes_without(problem: str) -> None:
    world = World(pbx={"recording": "record-from-answer-dual"})
    world.recorder.problem = problem
    answered(world)
    assert len(world.recorder.started) == 1  # the recorder says that it failed


def test_with_a_key_it_is_recorded_as_both_peers_want_it() -> None:
    mine = {**REQUIRED, "recording_key": "a.pub.json", "retention_days": 30.0}
    world = World(pbx=mine, carrier={"recording": "record-from-answer", "trim_silence": True,
                                     "retention_days": 7.0})  # fmt: skip
    answered(world)
    (spec,) = world.recorder.started
    assert (spec.customer_keys, spec.dual, spec.trim_silence) == (("a.pub.json",), True, True)
    assert spec.retention_days == 7.0


@pytest.mark.parametrize("ringing", [True, False])
def test_a_codec_that_cannot_be_recorded_ends_the_call_with_its_answer(ringing: bool) -> None:
    when = "record-from-ringing" if ringing else "record-from-answer"
    world = World(pbx={**REQUIRED, "recording": when})
    g722 = sdp(CARRIER, 5000, "9", "a=rtpmap:9 G722/8000")
    world.carrier.on_request = lambda tx, request: world.carrier.answer(tx, request, body=g722)
    world.pbx.call(body=sdp(PBX, 4000, "9", "a=rtpmap:9 G722/8000"))
    world.run_until(lambda: world.calls.idle)
    world.run(5)
    response = world.pbx.responses[-1]
    assert response.status == 488
    assert response.headers.get("Warning") == f'399 relay "{TEXT}: its codec is G722"'
    assert world.carrier.got("BYE") and not world.recorder.started


def test_a_transfer_to_who_requires_it_is_refused_and_the_call_stays() -> None:
    rig = Transferred()
    rig.world.recorder.problem = MISSING
    rig.world.router.trunks[PBX] = trunk = Trunk(name="acme", transfer="enable-all", **REQUIRED)
    rig.world.router._configured = (trunk, *rig.world.router._configured[1:])
    assert rig.refused()[0] == 503


def test_who_records_nothing_has_no_say_in_whose_the_recording_is() -> None:
    silent = Trunk(name="a", recording_key="a.pub.json", retention_days=1.0)
    keys = [Trunk(name=n, recording="record-from-answer", recording_key=n) for n in ("b", "c")]
    assert policy_of(silent, keys[0]).customer_keys == ("b",)
    assert policy_of(silent, keys[0]).retention_days is None
    assert policy_of(*keys).customer_keys == ("b", "c")
    assert policy_of(keys[0], keys[0]).customer_keys == ("b",)
