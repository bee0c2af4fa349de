"""Calls of and to voice clients: who they are, and which device gets a call (virtual time)."""

from __future__ import annotations

import pytest

from relay.call.fork import ELSEWHERE
from relay.call.ports import ConsentLost, PathSelected, Secured, SecuringFailed, Side
from relay.sdp.description import IceCredentials
from relay.sip.message import Request
from tests.scenario.test_attack import assert_clean
from tests.scenario.world import CLIENT_NUMBER, NUMBER, RELAY, Device, Phone, World, webrtc


def rings(phone: Phone) -> None:
    """It rings until it is told what to do."""

    def on_request(tx: object, request: Request) -> None:
        if request.method == "INVITE":
            phone.invite, phone.invite_tx = request, tx
            phone.ring(tx, request, tag=f"ring{id(phone)}")
        else:
            phone.reply(tx, request, 200)

    phone.on_request = on_request


def pick_up(phone: Phone) -> None:
    phone.answer(phone.invite_tx, phone.invite, tag=f"ring{id(phone)}")
    phone.world.settle()


def refuse(phone: Phone, status: int) -> None:
    phone.reply(phone.invite_tx, phone.invite, status, tag=f"ring{id(phone)}")
    phone.world.settle()


def ringing(world: World, *devices: Device) -> None:
    for device in devices:
        rings(device)
    world.run_until(lambda: all(device.got("INVITE") for device in devices))
    world.run(0.1)


def warning(phone: Phone) -> str:
    return phone.responses[-1].headers.get("Warning") or ""


# --- one device


def test_a_client_calls_a_number_of_a_trunk() -> None:
    """Who calls is what the token says, and nothing behind it is told."""
    world = World(account={"caller_number": "+35315550123"})
    alice = world.device("alice")
    alice.call()
    world.run_until(lambda: bool(world.carrier.acks) and bool(alice.dialog))
    invite = world.carrier.requests[0]
    assert invite.from_.uri.user == "+35315550123"
    assert invite.from_.display == ""
    assert "invalid" not in invite.encode().decode()
    assert world.journal.last("call_started")["caller_number"] == "alice"
    world.run(1.0)
    alice.bye()
    world.run_until(lambda: bool(world.carrier.got("BYE")))
    assert_clean(world)


def test_a_trunk_calls_a_client() -> None:
    world = World()
    alice = world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    world.run_until(lambda: bool(alice.acks) and bool(world.pbx.dialog))
    invite = alice.requests[0]
    assert invite.uri == "sip:alice1@1.invalid;transport=ws"
    assert invite.to.uri.user == "alice"
    assert invite.from_.uri.user == "+35315550100"
    alice.bye()
    world.run_until(lambda: bool(world.pbx.got("BYE")))
    assert_clean(world)


def test_a_client_calls_another_and_its_name_is_shown() -> None:
    world = World(account={"caller_number": "+35315550123"})
    alice, bob = world.device("alice"), world.device("bob")
    alice.call("bob")
    world.run_until(lambda: bool(bob.acks) and bool(alice.dialog))
    assert bob.requests[0].from_.uri.user == "alice"
    assert world.journal.last("call_started")["callee_number"] == "bob"
    bob.bye()
    world.run_until(lambda: bool(alice.got("BYE")))
    assert_clean(world)


@pytest.mark.parametrize(
    ("token", "shown"), [("+35315550144", "+35315550144"), (None, "+35315550123")]
)
def test_the_tokens_number_comes_before_the_accounts(token: str | None, shown: str) -> None:
    world = World(account={"caller_number": "+35315550123"})
    world.device("alice", number=token).call()
    world.run_until(lambda: bool(world.carrier.requests))
    assert world.carrier.requests[0].from_.uri.user == shown


def test_a_client_cannot_assert_who_it_is() -> None:
    world = World(carrier={"trusted": True})
    alice = world.device("alice", number="+35315550144")
    alice.call(
        P_Asserted_Identity="<sip:+35315550199@x>",
        Diversion="<sip:+35315550177@x>",
        Remote_Party_ID="<sip:+35315550166@x>",
    )
    world.run_until(lambda: bool(world.carrier.requests))
    invite = world.carrier.requests[0]
    assert invite.headers.get("P-Asserted-Identity") == "<sip:+35315550144@192.0.2.1:5060>"
    assert "Diversion" not in invite.headers
    assert "Remote-Party-ID" not in invite.headers


@pytest.mark.parametrize("trusted", [False, True])
def test_a_client_may_withhold_its_number(trusted: bool) -> None:
    """A trunk of our trust domain is told, with the wish; no other is."""
    world = World(carrier={"trusted": trusted})
    world.device("alice", number="+35315550144").call(Privacy="id")
    world.run_until(lambda: bool(world.carrier.requests))
    text = world.carrier.requests[0].encode().decode()
    assert ("+35315550144" in text) is trusted
    assert "Privacy: id" in text


def test_who_is_not_registered_is_not_reached() -> None:
    world = World()
    world.pbx.call(CLIENT_NUMBER)
    world.run_until(lambda: 480 in world.pbx.statuses())
    assert "no device of this voice client is registered" in warning(world.pbx)
    assert world.media.families == []
    assert_clean(world)


def test_who_may_not_be_called_is_not() -> None:
    world = World()
    alice = world.device("alice", may_be_called=False)
    world.pbx.call(CLIENT_NUMBER)
    world.run_until(lambda: 403 in world.pbx.statuses())
    assert "does not allow calls to it" in warning(world.pbx)
    assert not alice.requests
    assert_clean(world)


def test_who_may_not_call_out_does_not() -> None:
    world = World()
    alice = world.device("alice", may_call_out=False)
    alice.call()
    world.run_until(lambda: 403 in alice.statuses())
    assert "does not allow calls (out)" in warning(alice)
    assert not world.carrier.requests
    assert_clean(world)


def test_early_media_of_a_lone_device_reach_the_caller() -> None:
    world = World()
    alice = world.device("alice")
    alice.on_request = lambda tx, request: alice.ring(tx, request, body=alice.describe(5000))
    world.pbx.call(CLIENT_NUMBER)
    world.run_until(lambda: 183 in world.pbx.statuses())
    assert world.pbx.responses[-1].body


def test_a_key_in_an_info_request_crosses() -> None:
    world = World()
    alice = world.device("alice")
    alice.call()
    world.run_until(lambda: bool(world.carrier.acks) and bool(alice.dialog))
    alice.in_dialog("INFO", b"Signal=5\r\nDuration=160\r\n")
    world.run_until(lambda: bool(world.carrier.got("INFO")))
    assert world.journal.last("dtmf")["key"] == "5"


# --- several devices


def test_all_devices_ring_and_the_first_that_answers_has_the_call() -> None:
    """The others are told that no call was missed (RFC 3326); the caller hears of one device."""
    world = World()
    devices = [world.device("alice") for _ in range(3)]
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, *devices)
    pick_up(devices[1])
    world.run_until(lambda: bool(devices[1].acks) and bool(world.pbx.dialog))
    world.run(1.0)
    for other in (devices[0], devices[2]):
        (cancel,) = other.cancelled
        assert cancel.headers.get("Reason") == ELSEWHERE
    assert not devices[1].cancelled
    heard = [response for response in world.pbx.responses if response.status > 100]
    assert len({response.to.tag for response in heard}) == 1
    assert [response.status for response in heard] == [180, 180, 180, 200]
    devices[1].bye()
    world.run_until(lambda: bool(world.pbx.got("BYE")))
    assert_clean(world)


def test_the_engine_knows_our_offer_before_a_device_answers() -> None:
    """A browser's checks come sooner than its answer."""
    world = World()
    devices = world.device("alice"), world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, *devices)
    (media,) = world.media.calls
    (offered,) = media.offers[Side.CALLEE]
    for device in devices:
        assert f"a=ice-ufrag:{offered.ufrag}\r\n".encode() in device.requests[0].body
        assert f"a=ice-pwd:{offered.pwd}\r\n".encode() in device.requests[0].body
    assert not media.offers[Side.CALLER] and not media.updates[Side.CALLEE]
    pick_up(devices[1])
    world.run_until(lambda: bool(devices[1].acks))
    agreed = media.updates[Side.CALLEE][-1].webrtc
    assert agreed is not None
    assert (agreed.local_ufrag, agreed.local_pwd) == (offered.ufrag, offered.pwd)
    devices[1].bye()
    world.run_until(lambda: world.calls.idle)
    assert_clean(world)


def test_two_answers_that_cross() -> None:
    """The second is acknowledged and ended (RFC 3261 section 13.2.2.4)."""
    world = World()
    first, second = world.device("alice"), world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, first, second)
    pick_up(first)
    pick_up(second)
    world.run_until(lambda: bool(second.got("BYE")))
    assert second.acks
    assert first.acks
    assert not first.got("BYE")
    assert world.pbx.statuses().count(200) == 1
    assert len(world.calls.active) == 1
    world.pbx.bye()
    world.run_until(lambda: bool(first.got("BYE")))
    assert_clean(world)


def test_a_cancel_that_crosses_an_answer() -> None:
    world = World()
    first, second = world.device("alice"), world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, first, second)
    world.pbx.cancel()
    pick_up(second)
    world.run_until(lambda: bool(second.got("BYE")) and 487 in world.pbx.statuses())
    assert second.acks
    assert first.cancelled[0].headers.get("Reason") is None
    assert_clean(world)


@pytest.mark.parametrize("to", [CLIENT_NUMBER, NUMBER])
def test_who_calls_knows_that_no_call_was_missed(to: str) -> None:
    """A PBX that rings a desk phone, too: the Reason of its CANCEL crosses, without addresses."""
    world = World()
    alice = world.device("alice")
    called = alice if to == CLIENT_NUMBER else world.carrier
    rings(called)
    world.pbx.call(to)
    world.run_until(lambda: 180 in world.pbx.statuses())
    world.pbx.cancel('SIP;cause=200;text="Call completed elsewhere by 192.0.2.2"')
    world.run_until(lambda: bool(called.cancelled))
    told = called.cancelled[0].headers.get("Reason")
    assert told == 'SIP;cause=200;text="Call completed elsewhere by ..."'
    assert_clean(world)


def test_one_device_is_busy_and_the_other_rings_on() -> None:
    world = World()
    first, second = world.device("alice"), world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, first, second)
    refuse(first, 486)
    world.run(5.0)
    assert 486 not in world.pbx.statuses()
    pick_up(second)
    world.run_until(lambda: bool(world.pbx.dialog))
    second.bye()
    world.run_until(lambda: bool(world.pbx.got("BYE")))
    assert_clean(world)


def test_the_best_of_all_failures_is_told() -> None:
    """RFC 3261 section 16.7, step 6: the lowest class, and what a device said itself."""
    world = World()
    first, second = world.device("alice"), world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, first, second)
    refuse(first, 500)
    refuse(second, 486)
    world.run_until(lambda: 486 in world.pbx.statuses())
    assert_clean(world)


def test_who_declines_on_one_device_is_rung_on_none() -> None:
    world = World()
    first, second = world.device("alice"), world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, first, second)
    refuse(first, 603)
    world.run_until(lambda: 603 in world.pbx.statuses() and bool(second.cancelled))
    assert_clean(world)


def test_nobody_answers() -> None:
    world = World()
    devices = [world.device("alice") for _ in range(2)]
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, *devices)
    world.run_until(lambda: 480 in world.pbx.statuses(), 200)
    assert "nobody answered in time" in warning(world.pbx)
    world.run_until(lambda: all(device.cancelled for device in devices))
    assert_clean(world)


def test_early_media_of_several_devices_are_left_out() -> None:
    """One caller cannot hear two; the 2xx says it again."""
    world = World()
    first, second = world.device("alice"), world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, first, second)
    first.ring(first.invite_tx, first.invite, tag=f"ring{id(first)}", body=first.describe(5000))
    world.run_until(lambda: 183 in world.pbx.statuses())
    assert not world.pbx.responses[-1].body
    pick_up(first)
    world.run_until(lambda: 200 in world.pbx.statuses())
    assert world.pbx.responses[-1].body


@pytest.mark.parametrize("answers", [0, 1])
def test_a_call_without_an_offer_to_several_devices(answers: int) -> None:
    """Each makes an offer of its own; the ACK to the one that counts waits for the caller's."""
    world = World()
    devices = [world.device("alice") for _ in range(2)]
    world.pbx.acknowledge = False
    world.pbx.call(CLIENT_NUMBER, body=b"")
    ringing(world, *devices)
    pick_up(devices[answers])
    pick_up(devices[1 - answers])
    world.run_until(lambda: 200 in world.pbx.statuses() and bool(devices[1 - answers].got("BYE")))
    assert devices[1 - answers].acks
    assert not devices[answers].acks
    world.pbx.send_ack(world.pbx.responses[-1], world.pbx.describe(4000))
    world.run_until(lambda: bool(devices[answers].acks))
    assert devices[answers].acks[0].body
    world.pbx.bye()
    world.run_until(lambda: bool(devices[answers].got("BYE")))
    assert_clean(world)


def test_all_devices_are_offered_the_same() -> None:
    """One negotiation serves whichever answers; its keys come from DTLS."""
    world = World()
    devices = [world.device("alice") for _ in range(2)]
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, *devices)
    first, second = (device.requests[0] for device in devices)
    assert first.body == second.body
    assert first.call_id != second.call_id


@pytest.mark.parametrize("count", [1, 2])
def test_only_a_lone_device_has_its_18x_acknowledged(count: int) -> None:
    """An offer in one of several reliable 18x could not be answered (RFC 3262)."""
    world = World()
    devices = [world.device("alice") for _ in range(count)]
    world.pbx.call(CLIENT_NUMBER, body=b"", Supported="100rel")
    ringing(world, *devices)
    said = "100rel" in (devices[0].requests[0].headers.get("Supported") or "")
    assert said is (count == 1)


def test_a_call_that_was_to_one_device_rings_no_other() -> None:
    """The GRUU of a device is in the Request-URI (RFC 5627)."""
    world = World()
    bob, first, second = world.device("bob"), world.device("alice"), world.device("alice")
    bob.call("alice", params=f";gr={second.instance}")
    world.run_until(lambda: bool(second.acks))
    assert not first.requests
    bob.bye()
    world.run_until(lambda: bool(second.got("BYE")))
    assert_clean(world)


# --- transfers


def refer(phone: Phone, number: str) -> None:
    assert phone.dialog is not None
    request = phone.dialog.request("REFER", contact=phone.contact)
    request.headers.add("Refer-To", f"<sip:{number}@{RELAY}>")
    phone.send(request)


def test_a_call_is_transferred_to_a_client_with_several_devices() -> None:
    """The transferee gets the device that answers; the other hears that no call was missed."""
    world = World(carrier={"transfer": "enable-all"})
    first, second = world.device("alice"), world.device("alice")
    world.pbx.call(NUMBER)
    world.run_until(lambda: bool(world.carrier.acks) and bool(world.pbx.dialog))
    rings(first)
    rings(second)
    refer(world.carrier, CLIENT_NUMBER)
    world.run_until(lambda: bool(first.got("INVITE")) and bool(second.got("INVITE")))
    assert first.requests[0].body == second.requests[0].body
    world.run(1.0)
    pick_up(second)
    world.run_until(lambda: bool(second.acks) and bool(first.cancelled))
    assert first.cancelled[0].headers.get("Reason") == ELSEWHERE
    world.run(5.0)
    assert world.carrier.got("BYE")
    (media,) = world.media.calls
    agreed = media.updates[Side.CALLEE][-1].webrtc
    assert agreed is not None
    assert media.offers[Side.CALLEE][0] == IceCredentials(agreed.local_ufrag, agreed.local_pwd)
    assert media.updates[Side.CALLER][-1].webrtc is None
    second.bye()
    world.run_until(lambda: bool(world.pbx.got("BYE")))
    assert_clean(world)


def test_a_client_transfers_its_call_to_a_trunk() -> None:
    world = World(account={"transfer": "enable-all"})
    alice = world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    world.run_until(lambda: bool(alice.acks) and bool(world.pbx.dialog))
    refer(alice, NUMBER)
    world.run_until(lambda: bool(world.carrier.acks))
    assert world.carrier.requests[0].from_.uri.user == "+35315550100"  # the transferee's
    world.run(5.0)
    assert alice.got("BYE")
    world.carrier.bye()
    world.run_until(lambda: bool(world.pbx.got("BYE")))
    assert_clean(world)


def test_a_client_that_is_transferred_shows_its_number() -> None:
    world = World(account={"caller_number": "+35315550123"}, carrier={"transfer": "enable-all"})
    alice = world.device("alice")
    alice.call(NUMBER)
    world.run_until(lambda: bool(world.carrier.acks) and bool(alice.dialog))
    refer(world.carrier, NUMBER)
    world.run_until(lambda: bool(world.pbx.requests))
    assert world.pbx.requests[0].from_.uri.user == "+35315550123"


def test_transfers_by_clients_are_off_unless_the_account_has_them() -> None:
    world = World()
    alice = world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    world.run_until(lambda: bool(alice.acks) and bool(world.pbx.dialog))
    refer(alice, NUMBER)
    world.run_until(lambda: 403 in alice.statuses("REFER"))
    assert not world.carrier.requests


# --- what the engine tells


def test_a_path_and_its_keys_are_logged() -> None:
    world = World()
    alice = world.device("alice")
    alice.call()
    world.run_until(lambda: bool(world.carrier.acks) and bool(alice.dialog))
    (call,) = world.calls.active
    world.relay.on_media(call, PathSelected(Side.CALLER, "192.0.2.50", 40000), world.now)
    world.relay.on_media(call, Secured(Side.CALLER, "AEAD_AES_128_GCM"), world.now)
    world.relay.on_media(call, ConsentLost(Side.CALLER), world.now)
    assert world.journal.last("media_path_selected")["host"] == "192.0.2.50"
    assert world.journal.last("media_secured")["suite"] == "AEAD_AES_128_GCM"
    assert world.journal.last("media_consent_lost")["side"] == "caller"
    world.run(1.0)
    assert world.calls.active


def test_a_call_whose_keys_are_refused_ends() -> None:
    world = World()
    alice = world.device("alice")
    alice.call()
    world.run_until(lambda: bool(world.carrier.acks) and bool(alice.dialog))
    (call,) = world.calls.active
    failed = SecuringFailed(Side.CALLER, "another certificate than the description named")
    world.relay.on_media(call, failed, world.now)
    world.run_until(lambda: bool(alice.got("BYE")) and bool(world.carrier.got("BYE")))
    reason = alice.got("BYE")[0].headers.get("Reason") or ""
    assert "not secured: another certificate" in reason
    assert_clean(world)


# --- inside a call


def talking(world: World) -> Device:
    """Alice has called the carrier."""
    alice = world.device("alice")
    alice.call()
    world.run_until(lambda: bool(world.carrier.acks) and bool(alice.dialog))
    world.run(1.0)
    return alice


def test_an_ice_restart_changes_nothing_for_the_other_side() -> None:
    """RFC 8839 section 4.4.1: a new ufrag of theirs gets a new one of ours; the trunk hears
    nothing of it."""
    world = World()
    alice = talking(world)
    (media,) = world.media.calls
    before = media.updates[Side.CALLER][-1].webrtc
    alice.in_dialog("INVITE", webrtc("actpass", "zZ9/"))
    world.run_until(lambda: alice.statuses().count(200) == 2)
    after = media.updates[Side.CALLER][-1].webrtc
    assert before is not None and after is not None
    assert after.remote_ufrag == "zZ9/"
    assert after.local_ufrag != before.local_ufrag
    assert after.fingerprints == before.fingerprints
    assert len(world.carrier.got("INVITE")) == 1
    assert len(media.updates[Side.CALLEE]) == 1
    alice.bye()
    world.run_until(lambda: bool(world.carrier.got("BYE")))
    assert_clean(world)


@pytest.mark.parametrize("by", ["client", "trunk"])
def test_a_call_is_held_and_resumed(by: str) -> None:
    world = World()
    alice = talking(world)
    (media,) = world.media.calls
    holder, held = (alice, world.carrier) if by == "client" else (world.carrier, alice)
    side = Side.CALLER if by == "client" else Side.CALLEE
    offer = holder.describe(4000, offer=True)
    for direction, flows in (("sendonly", False), ("sendrecv", True)):
        done = holder.statuses().count(200)
        seen = len(held.got("INVITE"))
        extra = f"a={direction}\r\n".encode()
        holder.in_dialog("INVITE", offer + extra)
        world.run_until(lambda n=done: holder.statuses().count(200) > n)
        assert len(held.got("INVITE")) == seen + 1
        assert extra in held.got("INVITE")[-1].body
        assert media.updates[side][-1].may_receive is flows
        world.run(1.0)
    alice.bye()
    world.run_until(lambda: bool(world.carrier.got("BYE")))
    assert_clean(world)


def test_a_browser_that_hears_a_first_address_can_hear_the_second() -> None:
    """Its one offer has one ICE and DTLS of ours, whoever answers in the end."""
    world = World()
    first, second = world.carrier_at("192.0.2.7", "192.0.2.8")

    def fails_late(tx: object, request: Request) -> None:
        if request.method == "INVITE":
            first.ring(tx, request, body=first.describe(5000))
            world.at(world.now + 1.0, lambda: first.reply(tx, request, 503))

    first.on_request = fails_late
    alice = world.device("alice")
    alice.call()
    world.run_until(lambda: bool(second.acks) and bool(alice.dialog))
    early, answer = (r.body for r in alice.responses if r.body)
    ufrags = [line for body in (early, answer) for line in body.split(b"\r\n") if b"ufrag" in line]
    assert ufrags[0] == ufrags[1]
    (media,) = world.media.calls
    legs = {leg.webrtc for leg in media.updates[Side.CALLER]}
    assert len(legs) == 1
    alice.bye()
    world.run_until(lambda: bool(second.got("BYE")))
    assert_clean(world)
