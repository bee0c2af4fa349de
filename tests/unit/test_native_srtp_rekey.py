"""Keys over the life of a leg: repeated, changed, several, held, given up."""

from __future__ import annotations

import resource
import time

import pytest

from relay.call.ports import Side
from relay.sdp.description import SrtpKey, SrtpKeys
from tests.unit.media_rig import Rig, rig
from tests.unit.srtp_rig import SUITE_NAMES, Phone, fresh_key, native


def start(r: Rig, suite: str = SUITE_NAMES[0]) -> Phone:
    """A secure caller that has been heard once, and has heard the callee."""
    phone = Phone(r.caller, suite)
    r.call.update(Side.CALLER, phone.leg())
    r.call.update(Side.CALLEE, r.callee.leg())
    passes(r, phone)
    return phone


def passes(r: Rig, phone: Phone) -> None:
    """Audio flows both ways."""
    sent = phone.send(r.at_caller)
    assert r.callee.rtp.recv(4096) == sent
    back = r.callee.send(r.at_callee)
    assert phone.hear()[12:] == back[12:]


def test_repeated_keys_keep_the_roll_over_counter_and_the_replay_list() -> None:
    with rig() as r:
        r.caller.sequence = r.callee.sequence = 65500
        phone = start(r)
        old = phone.packet()
        r.caller.send(r.at_caller, old)
        r.callee.rtp.recv(4096)
        for _ in range(60):  # both directions roll over
            passes(r, phone)
        r.call.update(Side.CALLER, phone.leg())
        passes(r, phone)
        r.caller.send(r.at_caller, old)
        r.wait_for_drop("srtp_replayed")
        passes(r, phone)


@pytest.mark.parametrize("suite", SUITE_NAMES)
def test_a_new_key_takes_over_without_a_gap(suite: str) -> None:
    """What the peer still sends with its old key passes until it has changed over."""
    with rig() as r:
        phone = start(r)
        before, was = phone.sending, phone.packet()
        phone.rekey(suite)
        r.call.update(Side.CALLER, phone.leg())
        back = r.callee.send(r.at_callee)
        assert phone.hear() == back  # we change over at once
        for _ in range(3):
            plain = r.caller.next_packet()
            r.caller.send(r.at_caller, before.protect(plain))
            assert r.callee.rtp.recv(4096) == plain
        passes(r, phone)
        r.caller.send(r.at_caller, was)  # in flight all the time
        assert len(r.callee.rtp.recv(4096)) == 172
        r.caller.send(r.at_caller, was)
        r.wait_for_drop("srtp_replayed")
        passes(r, phone)
        assert r.call.figures(Side.CALLER).drops == {"srtp_replayed": 1}


def test_the_replaced_key_ends_soon_after_the_new_one_was_used() -> None:
    with rig() as r:
        phone = start(r)
        before = phone.sending
        phone.rekey()
        r.call.update(Side.CALLER, phone.leg())
        passes(r, phone)
        deadline = time.monotonic() + 8
        while not r.call.figures(Side.CALLER).drops.get("srtp_authentication_failed"):
            assert time.monotonic() < deadline, "the replaced key is still accepted"
            r.caller.send(r.at_caller, before.protect(r.caller.next_packet()))
            time.sleep(0.05)
        passes_after(r, phone)


def passes_after(r: Rig, phone: Phone) -> None:
    """Like `passes`, after packets that nobody read."""
    sent = phone.send(r.at_caller)
    while r.callee.rtp.recv(4096) != sent:
        pass


def test_a_key_change_that_is_taken_back_goes_on_where_it_was() -> None:
    with rig() as r:
        phone = start(r)
        old_leg, old_sending, old_receiving = phone.leg(), phone.sending, phone.receiving
        phone.rekey()
        r.call.update(Side.CALLER, phone.leg())
        passes(r, phone)
        r.call.update(Side.CALLER, old_leg)
        phone.sending, phone.receiving = old_sending, old_receiving
        passes(r, phone)  # no index was used twice, or libsrtp would refuse it


def test_a_peer_that_keeps_its_roll_over_counter_when_it_changes_its_key() -> None:
    """RFC 3711 has one counter a stream; others begin at 0: both are understood."""
    for keeps in (True, False):
        with rig() as r:
            r.caller.sequence = 65500
            phone = start(r)
            for _ in range(60):
                passes(r, phone)
            phone.rekey()
            if keeps:
                sender = native(phone.key, True)
                for number in (30000, 60000, 10):  # the new key's counter is 1, too
                    sender.close(numbered(r, number))
                phone.sending = type("Sender", (), {"protect": staticmethod(sender.close)})()
            r.call.update(Side.CALLER, phone.leg())
            passes(r, phone)
            passes(r, phone)


def numbered(r: Rig, number: int) -> bytes:
    plain = r.caller.next_packet()
    r.caller.sequence -= 1
    return plain[:2] + number.to_bytes(2, "big") + plain[4:]


def test_keys_told_apart_by_their_mki() -> None:
    with rig() as r:
        keys = tuple(fresh_key(mki=mki) for mki in (b"\x00\x01", b"\x00\x02"))
        ours = fresh_key()
        leg = r.caller.leg(srtp=SrtpKeys(keys, ours))
        r.call.update(Side.CALLER, leg)
        r.call.update(Side.CALLEE, r.callee.leg())
        for key in (keys[0], keys[1], keys[0]):
            plain = r.caller.next_packet()
            r.caller.send(r.at_caller, closed(key, plain))
            assert r.callee.rtp.recv(4096) == plain
        unknown = SrtpKey(keys[0].suite, keys[0].key, keys[0].salt, b"\x00\x03")
        r.caller.send(r.at_caller, closed(unknown, r.caller.next_packet()))
        r.wait_for_drop("srtp_unknown_mki")
        swapped = SrtpKey(keys[0].suite, keys[0].key, keys[0].salt, keys[1].mki)
        r.caller.send(r.at_caller, closed(swapped, r.caller.next_packet()))
        r.wait_for_drop("srtp_authentication_failed")


@pytest.mark.parametrize("suite", SUITE_NAMES)
def test_the_mki_is_where_the_suite_has_it(suite: str) -> None:
    """Before the tag of HMAC-SHA1, after that of GCM (RFC 7714 section 7.2)."""
    with rig() as r:
        keys, ours = (fresh_key(suite, b"key1"),), fresh_key(suite, b"ours")
        r.call.update(Side.CALLER, r.caller.leg(srtp=SrtpKeys(keys, ours)))
        r.call.update(Side.CALLEE, r.callee.leg())
        plain = r.caller.next_packet()
        data = closed(keys[0], plain)
        tag = {"AES_CM_128_HMAC_SHA1_32": 4}.get(suite, 10)
        assert (
            data[-4:] == b"key1" if suite.startswith("AEAD") else data[-4 - tag : -tag] == b"key1"
        )
        r.caller.send(r.at_caller, data)
        assert r.callee.rtp.recv(4096) == plain
        back = r.callee.send(r.at_callee)
        assert native(ours, False).open(r.caller.rtp.recv(4096)) == back


def closed(key: SrtpKey, plain: bytes) -> bytes:
    data = native(key, True).close(plain)
    assert isinstance(data, bytes)
    return data


def test_a_side_on_hold_is_followed_over_a_roll_over() -> None:
    """What it sends meanwhile is not passed on, but keeps the counter."""
    with rig() as r:
        r.caller.sequence = 65500
        phone = start(r)
        r.call.update(Side.CALLER, phone.leg(may_send=False))
        for count in range(1, 101):
            phone.send(r.at_caller)
            r.wait_for_drop("on_hold", count=count)
        r.call.update(Side.CALLER, phone.leg())
        passes(r, phone)


def test_a_long_hold_without_packets() -> None:
    """The stream goes on, with its next number or with another SSRC."""
    with rig() as r:
        phone = start(r)
        r.call.update(Side.CALLER, phone.leg(may_send=False, may_receive=False))
        r.call.update(Side.CALLEE, r.callee.leg(may_send=False, may_receive=False))
        r.call.update(Side.CALLER, phone.leg())
        r.call.update(Side.CALLEE, r.callee.leg())
        passes(r, phone)
        r.caller.ssrc += 1
        r.callee.ssrc += 1
        passes(r, phone)


@pytest.mark.parametrize("ahead", [100, 20000, 32769, 50000, 65530])
def test_a_receiver_on_hold_hears_the_stream_again_wherever_its_numbers_are(ahead: int) -> None:
    """Janus and others lose the audio here: to the receiver it looks like a replay."""
    with rig() as r:
        r.callee.sequence = 40000
        phone = start(r)
        r.call.update(Side.CALLER, phone.leg(may_receive=False))
        r.callee.send(r.at_callee)
        r.wait_for_drop("receiver_on_hold", Side.CALLEE)
        r.callee.sequence += ahead
        r.call.update(Side.CALLER, phone.leg())
        for _ in range(3):
            last = r.callee.send(r.at_callee)
        heard = phone.hear()
        while heard[12:] != last[12:] or heard[4:8] != last[4:8]:
            heard = phone.hear()
        passes(r, phone)


def test_from_srtp_to_plain_rtp_and_back() -> None:
    with rig() as r:
        phone = start(r)
        late = phone.packet()
        r.call.update(Side.CALLER, r.caller.leg())
        r.caller.send(r.at_caller, late)  # not noise in somebody's ear
        assert len(r.callee.rtp.recv(4096)) == 172
        sent = r.caller.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        back = r.callee.send(r.at_callee)
        assert r.caller.rtp.recv(4096) == back
        r.call.update(Side.CALLER, phone.leg())
        r.caller.send(r.at_caller)
        r.wait_for_drop("srtp_authentication_failed")
        passes(r, phone)


def test_changing_keys_for_long_leaves_nothing_behind() -> None:
    with rig() as r:
        phone = Phone(r.caller)

        def change(times: int) -> int:
            for _ in range(times):
                keys = SrtpKeys((fresh_key(),), fresh_key("AEAD_AES_256_GCM"))
                r.call.update(Side.CALLER, r.caller.leg(srtp=keys))
            r.call.update(Side.CALLER, phone.leg())
            r.call.update(Side.CALLEE, r.callee.leg())
            passes(r, phone)
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        before = change(2000)
        assert change(4000) - before < 4000  # KiB; a key that stayed would be 4 of them
