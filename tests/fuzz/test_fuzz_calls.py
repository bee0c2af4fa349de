"""Whole calls in virtual time between two phones whose descriptions are anything at all.

Whatever they say and in whatever order: no exception, nothing left behind, no audio out of the
region, none in the clear where SRTP is required, and no key of one leg on the other. Bounded by
RELAY_FUZZ_SECONDS (default 5 s for the whole file); a failure prints its seed.
"""

from __future__ import annotations

import ipaddress
import os
import random
import time
from base64 import b64encode

from relay.call.events import Stopped
from relay.call.ports import LegMedia, Side
from relay.errors import NotAcceptable
from relay.sdp.description import SUITES, IceCredentials, MediaAddress
from relay.sip.message import Request, Response
from tests.fuzz.test_fuzz_sdp import _mutated
from tests.scenario.world import CARRIER, NUMBER, PBX, RELAY, FakeCallMedia, Phone, World

SECONDS = float(os.environ.get("RELAY_FUZZ_SECONDS", "5"))
SEED = int(os.environ.get("RELAY_FUZZ_SEED", str(random.SystemRandom().getrandbits(32))))
REGION = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32"))
MODES = ("off", "optional", "required")
ODD_HOSTS = (
    "0.0.0.0", "203.0.113.9", "2001:db8::5", "::", "fe80::1%eth0", "127.0.0.1", "224.0.0.1/127",
    "phone.example", "::ffff:192.0.2.2", "255.255.255.255", "[2001:db8::5]", "",
)  # fmt: skip
FORMATS = (
    "0 8 101", "0 8 101", "8 0 96", "0", "", "200", "0 0 0", "96 97 101", "telephone-event",
    " ".join(str(number % 128) for number in range(1000)),
)  # fmt: skip
EXTRAS = (
    "a=rtcp:5 IN IP4 203.0.113.9", "a=rtcp:0", "a=rtcp:99999", "a=rtcp-mux", "a=sendonly",
    "a=recvonly", "a=inactive", "a=sendrecv", "a=mid:1", "a=mid:1", "a=group:BUNDLE 1 1",
    "a=rtpmap:101 telephone-event/8000", "a=rtpmap:96 telephone-event/8000",
    "a=rtpmap:96 opus/48000/2", "a=rtpmap:0 telephone-event/8000", "a=rtpmap:97 PCMU/0",
    "a=candidate:1 1 UDP 1 203.0.113.9 5 typ host", "a=ptime:0", "b=AS:-1", "k=clear:secret",
    "m=video 5 RTP/AVP 99", "m=audio 0 RTP/AVP 0", "a=" + "x" * 20000, "c=IN IP4 203.0.113.9",
    "a=setup:actpass",
)  # fmt: skip


class StrictMedia(FakeCallMedia):
    """Takes what the engine takes, and only what it may be told."""

    def check(self, side: Side, remote: MediaAddress) -> None:
        if ":" in remote.host:
            raise NotAcceptable("its media address is of another IP version than this leg's")

    def offer(self, side: Side, ours: IceCredentials) -> None:
        """Nobody checks."""

    def update(self, side: Side, leg: LegMedia) -> None:
        if (remote := leg.remote) is not None:
            assert any(ipaddress.ip_address(remote.host) in network for network in REGION)
            assert 0 < remote.port < 65536 and 0 <= remote.rtcp_port < 65536
            assert ":" not in remote.host
        assert leg.payload_types and all(0 <= number < 128 for number in leg.payload_types)
        assert all(0 <= a < 128 and 0 <= b < 128 for a, b in leg.payload_map)
        assert leg.clock_hz > 0
        assert leg.telephone_event is None or 0 <= leg.telephone_event < 128
        if (keys := leg.srtp) is not None:
            for key in (*keys.receive, keys.send):
                shape = SUITES[key.suite]
                assert (len(key.key), len(key.salt)) == (shape.key_octets, shape.salt_octets)
            assert keys.receive and all(key.key != keys.send.key for key in keys.receive)
            assert len({key.mki for key in keys.receive}) == len(keys.receive)
        super().update(side, leg)


class Story:
    """One call told at random; `keys` are those that a phone has written."""

    def __init__(self, chance: random.Random, noisy: bool) -> None:
        self.chance = chance
        self.noisy = noisy
        self.keys: set[bytes] = set()
        self.modes = {PBX: chance.choice(MODES), CARRIER: chance.choice(MODES)}
        common = {"transfer": "enable-all", "symmetric_rtp": chance.random() < 0.3}
        self.world = world = World(
            seed=chance.randrange(1000),
            loss=chance.choice((0.0, 0.0, 0.1)),
            recording=chance.choice(("do-not-record", "record-from-ringing-dual")),
            pbx={"srtp": self.modes[PBX], **common},
            carrier={"srtp": self.modes[CARRIER], **common},
        )
        if chance.random() < 0.3:
            world.carrier_at(CARRIER, "192.0.2.7", "192.0.2.8")
            self.modes |= dict.fromkeys(("192.0.2.7", "192.0.2.8"), self.modes[CARRIER])
        for phone in world.phones.values():
            phone.on_request = lambda tx, request, phone=phone: self.serve(phone, tx, request)
            phone.send_ack = lambda response, phone=phone: self.acknowledge(phone, response)

    def pick(self, usual: object, *odd: object) -> object:
        """The usual one, but for one in eight times."""
        return usual if self.chance.random() < 0.88 else self.chance.choice(odd)

    def crypto(self, tag: object, name: str) -> str:
        suite = SUITES[name]
        key = b64encode(self.chance.randbytes(suite.key_octets + suite.salt_octets))
        if self.chance.random() < 0.03:
            key = key[: self.chance.randrange(1, len(key))]
        if len(key) > 20:
            self.keys.add(key[:16])
        mki = self.pick("", "|2^20", "|1:4", "|2^20|2:1", "|1:0")
        more = self.pick("", " UNENCRYPTED_SRTP", " WSH=64", " KDR=1")
        return f"a=crypto:{tag} {name} inline:{key.decode()}{mki}{more}"

    def sdp(self, phone: Phone, offer: bytes = b"") -> bytes:
        """A description of this phone's, in answer to `offer` if there is one."""
        chance, usual = self.chance, self.chance.random() < 0.7
        lines = [line.split() for line in offer.split(b"\r\n") if line.startswith(b"a=crypto:")]
        named = [(line[0][9:].decode(), line[1].decode()) for line in lines]
        if not offer:
            named = [(str(n), name) for n, name in enumerate(chance.sample(list(SUITES), 2), 1)]
        keyed = bool(named)
        if not offer and self.modes[phone.host] != "required":
            keyed = self.modes[phone.host] == "optional" and chance.random() < 0.7
        if usual:
            host, port, formats = phone.host, 4000, chance.choice(FORMATS[:2])
            profile = "RTP/SAVP" if keyed else "RTP/AVP"
        else:
            keyed = keyed is not (chance.random() < 0.1)
            host = self.pick(phone.host, *ODD_HOSTS)
            port = self.pick(4000, 0, 1, 65535, 65536, "4000/2", -1)
            formats = self.pick(FORMATS[0], *FORMATS)
            odd = ("RTP/AVP", "RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVPF", "rtp/avp", "PSST")
            profile = self.pick("RTP/SAVP" if keyed else "RTP/AVP", *odd)
        kind = "IP6" if ":" in str(host) else "IP4"
        text = ["v=0", f"o=- 1 {chance.randrange(9)} IN {kind} {phone.host}", "s=-"]
        text += [f"c=IN {kind} {host}", "t=0 0"]
        if not usual:
            text += [self.pick("a=tool:x", *EXTRAS)]
        text += [f"m=audio {port} {profile} {formats}"]
        named = named if not offer else named[: chance.choice((1, 1, 1, 1, 2))]
        if offer and len(lines) > 1 and chance.random() < 0.3:
            named = [chance.choice(named)]
        for tag, name in named if keyed else ():
            name = name if usual else str(self.pick(name, *SUITES))
            text += [self.crypto(tag if usual else self.pick(tag, 1, 2, 99), name)]
        while not usual and chance.random() < 0.4:
            text += [chance.choice(EXTRAS)]
        body = "\r\n".join([*map(str, text), ""]).encode()
        return _mutated(body, chance) if self.noisy and chance.random() < 0.15 else body

    def answer_to(self, phone: Phone, offer: bytes) -> bytes:
        return b"" if self.chance.random() < 0.05 else self.sdp(phone, offer)

    def acknowledge(self, phone: Phone, response: Response) -> None:
        body = b""
        if phone.invite is not None and not phone.invite.body:
            body = self.answer_to(phone, response.body)
        Phone.send_ack(phone, response, body)

    def serve(self, phone: Phone, tx: object, request: Request) -> None:
        chance = self.chance
        tag = "b1"
        if request.method not in ("INVITE", "UPDATE"):
            phone.reply(tx, request, 200)
            return
        if request.method == "INVITE" and request.to.tag is None:
            while chance.random() < 0.5:
                tag = chance.choice(("b1", "b1", "b2", "b3"))
                if "100rel" in (request.headers.get("Supported") or "") and chance.random() < 0.3:
                    phone.headers = {"Require": "100rel", "RSeq": str(chance.randrange(1, 4))}
                phone.ring(tx, request, tag, self.answer_to(phone, request.body))
                phone.headers = {}
        if chance.random() < 0.1:
            status = chance.choice((486, 488, 491, 500, 503, 503))
            phone.reply(tx, request, status, tag)
        elif chance.random() < 0.05:
            return  # silence: another address is tried
        elif request.method == "INVITE":
            phone.answer(tx, request, tag, self.answer_to(phone, request.body))
        else:
            phone.reply(tx, request, 200, tag, self.answer_to(phone, request.body))

    def disturb(self) -> None:
        """Something in the middle of the call."""
        chance, world = self.chance, self.world
        phone = chance.choice(list(world.phones.values()))
        if phone.dialog is None:
            return
        method = chance.choice(("INVITE", "INVITE", "UPDATE", "REFER", "INFO"))
        body = b"" if chance.random() < 0.2 else self.sdp(phone)
        if method != "REFER":
            phone.in_dialog(method, body)
            return
        refer = phone.dialog.request("REFER", contact=f"<sip:{phone.host}:5060>")
        refer.headers.add("Refer-To", f"<sip:{NUMBER}@{RELAY}>")
        phone.send(refer)

    def tell(self) -> None:
        world = self.world
        world.pbx.call(body=b"" if self.chance.random() < 0.1 else self.sdp(world.pbx))
        world.run(self.chance.choice((0.1, 1.0)))
        for _ in range(self.chance.randrange(5)):
            self.disturb()
            world.run(self.chance.choice((0.0, 0.02, 1.0, 40.0)))
        world._loss = 0.0
        world.run(40.0)  # a 2xx that was lost has come before the BYE does
        for phone in world.phones.values():
            if phone.dialog is not None:
                phone.bye()
        world.run(1.0)
        for call in list(world.calls.active.values()):
            if call.transfers:  # a target's dialog, which these phones do not follow
                call.feed(Stopped(), world.now)
        world.run(400.0)
        self.check()

    def check(self) -> None:
        world = self.world
        if world.bugs:
            raise world.bugs[0]
        assert world.calls.idle and world.media.open_count == 0
        assert set(world.admission.live.values()) <= {0}
        moved = "call_transferred" in world.journal.names()  # to a leg of the other trunk's
        for side, host in zip(Side, (PBX, CARRIER), strict=True):
            for media in () if moved else world.media.calls:
                told = {leg.srtp is not None for leg in media.updates[side]}
                assert self.modes[host] != "required" or told <= {True}
                assert self.modes[host] != "off" or told <= {False}
        self.check_keys()
        if not self.noisy:
            left = b"".join(data for source, _, data in world.wire if source == RELAY)
            assert not any(key in left for key in self.keys), "a peer's key has left"
            assert b"203.0.113.9" not in left

    def check_keys(self) -> None:
        """No key of ours closes the media of two sides or two media, nor opens any."""
        closes: dict[bytes, tuple[int, Side]] = {}
        opens: set[bytes] = set()
        for number, media in enumerate(self.world.media.calls):
            for side, legs in media.updates.items():
                for keys in (leg.srtp for leg in legs if leg.srtp is not None):
                    assert closes.setdefault(keys.send.key, (number, side)) == (number, side)
                    opens.update(key.key for key in keys.receive)
        assert not opens & set(closes)


def test_calls_with_any_descriptions(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("tests.scenario.world.FakeCallMedia", StrictMedia)
    until = time.monotonic() + SECONDS
    told = agreed = secured = 0
    while time.monotonic() < until or told < 100:
        seed = SEED + told
        story = Story(random.Random(seed), noisy=told % 2 == 1)
        try:
            story.tell()
        except Exception as bug:
            raise AssertionError(f"RELAY_FUZZ_SEED={seed} (as the first call)") from bug
        told += 1
        legs = [leg for media in story.world.media.calls for leg in media.updates[Side.CALLER]]
        agreed += bool(legs)
        secured += any(leg.srtp is not None for leg in legs)
    assert agreed > told // 10 and secured > told // 50, "the calls no longer come about"
