"""DTLS associations in virtual time: two back to back over a link that loses, and bad peers."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL, crypto

from relay.webrtc import dtls, half_open
from relay.webrtc.certificate import Certificate, make_certificate
from relay.webrtc.dtls import Association, Dtls, Keys, State, matches
from relay.webrtc.dtls_record import MAX_MESSAGE_OCTETS, datagrams, is_plausible

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OURS, THEIRS, OTHER = (make_certificate(NOW) for _ in range(3))


def named(*certificates: Certificate) -> tuple[dtls.FingerprintOf, ...]:
    return tuple(("sha-256", certificate.digest) for certificate in certificates)


def node(certificate: Certificate = OURS) -> Dtls:
    return Dtls(certificate, Counter())


class Link:
    """A client and a server, joined by datagrams of which `lost` says which are lost."""

    def __init__(self, client: Association, server: Association, loss: float = 0.0) -> None:
        self.client, self.server = client, server
        self.now = 5000.0
        self.loss = loss
        self.chance = random.Random(1)
        self.lost: set[int] = set()
        self.sent: list[bytes] = []

    def run(self, seconds: float = 30.0) -> Link:
        """Until both are done or the time is over."""
        until = self.now + seconds
        for end in (self.client, self.server):
            end.start(self.now)
        while True:
            self._exchange()
            timers = [end.next_timer() for end in (self.client, self.server)]
            due = min((timer for timer in timers if timer is not None), default=None)
            if due is None or due > until:
                return self
            self.now = max(self.now, due)
            for end in (self.client, self.server):
                end.on_timer(self.now)

    def _exchange(self) -> None:
        moved = True
        while moved:
            moved = False
            for here, there in ((self.client, self.server), (self.server, self.client)):
                for datagram in here.drain():
                    moved = True
                    lost = len(self.sent) in self.lost or self.chance.random() < self.loss
                    self.sent.append(datagram)
                    if not lost:
                        there.feed(datagram, self.now)


def pair(
    client: Dtls | None = None,
    server: Dtls | None = None,
    client_named: tuple[dtls.FingerprintOf, ...] = named(THEIRS),
    server_named: tuple[dtls.FingerprintOf, ...] = named(OURS),
    loss: float = 0.0,
) -> Link:
    """The server has certificate OURS and expects `client_named`, the client THEIRS."""
    return Link(
        Association(client or node(THEIRS), True, server_named),
        Association(server or node(OURS), False, client_named),
        loss,
    )


def both_keys(link: Link) -> tuple[Keys, Keys]:
    assert link.client.keys is not None, link.client.why
    assert link.server.keys is not None, link.server.why
    return link.client.keys, link.server.keys


def test_both_sides_have_the_same_keys() -> None:
    link = pair().run(61)
    client, server = both_keys(link)
    assert client.suite == server.suite == "AEAD_AES_128_GCM"
    assert client.send == server.receive
    assert client.receive == server.send
    assert client.send != client.receive
    assert [len(octets) for octets in client.send] == [16, 12]
    assert all(len(datagram) <= dtls.MTU for datagram in link.sent)
    assert link.now == 5000.0 + dtls.KEPT_S  # what OpenSSL holds is freed
    assert link.client.next_timer() is link.server.next_timer() is None
    assert link.client._tls is link.server._tls is None


@pytest.mark.parametrize("lost", range(3))
def test_keys_come_in_spite_of_a_lost_flight(lost: int) -> None:
    link = pair()
    link.lost = {lost}
    client, server = both_keys(link.run(5))
    assert client.send == server.receive
    assert link.now <= 5000 + 2 * dtls.FIRST_RESEND_S


@pytest.mark.parametrize("seed", range(6))
def test_with_half_of_all_lost_there_are_keys_or_a_reason(seed: int) -> None:
    link = pair(loss=0.5)
    link.chance = random.Random(seed)
    link.run(dtls.WITHIN_S)
    for end in (link.client, link.server):
        assert (end.keys is not None) != ("no DTLS handshake within" in end.why)


def test_no_answer_is_told_after_20_s() -> None:
    link = pair(loss=1.0).run()
    assert link.client.state is link.server.state is State.FAILED
    assert link.client.why == "no DTLS handshake within 20 s"
    assert link.now == 5020.0
    assert 5 <= len(link.sent) <= 8  # the gaps double


@pytest.mark.parametrize("wrong", ["client", "server"])
def test_a_certificate_that_was_not_named_gets_no_keys_and_an_alert(wrong: str) -> None:
    link = pair(**{f"{wrong}_named": named(OTHER)}).run()  # type: ignore[arg-type]
    refuser, refused = link.server, link.client
    if wrong == "server":
        refuser, refused = refused, refuser
    assert refuser.keys is None
    assert refuser.state is State.FAILED
    assert refuser.why == "its certificate is not the one whose fingerprint its description has"
    assert refused.keys is None or wrong == "client"  # RFC 5246: the client may be done first
    assert "alert" in refused.why or refused.keys is not None


def test_a_peer_whose_description_has_no_usable_fingerprint_gets_no_keys() -> None:
    for fingerprints in ((), (("sha-1", b"\0" * 20),), (("sha-256", b""),)):
        link = pair(client_named=fingerprints).run()
        assert link.server.state is State.FAILED


def test_a_peer_without_a_certificate_gets_no_keys() -> None:
    link = pair()
    peer = SSL.Connection(client_context(), None)
    assert "peer did not return a certificate" in shake(peer, link.server)


def test_a_peer_that_knows_no_srtp_gets_no_keys() -> None:
    peer = SSL.Connection(client_context(THEIRS, srtp=b""), None)
    assert "no SRTP suite in common" in shake(peer, pair().server)


def test_dtls_1_0_is_refused() -> None:
    context = client_context(THEIRS)
    context.set_min_proto_version(0xFEFF)
    context.set_max_proto_version(0xFEFF)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    assert "handshake failed" in shake(SSL.Connection(context, None), pair().server)


@pytest.mark.parametrize("suite", [b"SRTP_AES128_CM_SHA1_80", b"SRTP_AES128_CM_SHA1_32"])
def test_the_older_suite_is_taken_and_the_weak_one_is_not(suite: bytes) -> None:
    server = pair().server
    why = shake(SSL.Connection(client_context(THEIRS, suite), None), server)
    if suite.endswith(b"80"):
        assert server.keys is not None
        assert server.keys.suite == "AES_CM_128_HMAC_SHA1_80"
        assert [len(octets) for octets in server.keys.send] == [16, 14]
    else:
        assert server.keys is None
        assert "no SRTP suite in common" in why


def test_an_rsa_certificate_is_as_good() -> None:
    rsa_peer = rsa_certificate()
    both_keys(pair(client=node(rsa_peer), client_named=named(rsa_peer)).run())
    link = pair(server=node(rsa_peer), server_named=named(rsa_peer))
    both_keys(link.run())


def test_another_certificate_midway_is_not_taken() -> None:
    """A second handshake on the same path leaves the keys as they are."""
    link = pair().run()
    _, before = both_keys(link)
    intruder = Association(node(OTHER), True, named(OURS))
    again = Link(intruder, link.server).run(5)
    assert intruder.state is State.SHAKING
    assert link.server.keys is before
    assert link.server.state is State.SECURED
    assert len(again.sent) < 10


def test_a_lost_last_flight_is_sent_again() -> None:
    """The one that nothing answers: the peer's timer, OpenSSL's own, brings it."""
    link = pair()
    link.client.start(link.now)
    while link.server.state is not State.SECURED:
        for datagram in link.client.drain():
            link.server.feed(datagram, link.now)
        if link.server.state is not State.SECURED:
            for datagram in link.server.drain():
                link.client.feed(datagram, link.now)
    assert link.server.drain()  # lost
    assert link.client._tls is not None
    deadline = time.monotonic() + 10
    while link.client._tls.DTLSv1_get_timeout():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    both_keys(link.run(5))


def test_the_best_hash_of_a_description_decides() -> None:
    """RFC 8122 section 5.1."""
    certificate = crypto.X509.from_cryptography(OURS.certificate)
    right = {
        name: (name, OURS.certificate.fingerprint(algorithm))
        for name, algorithm in (("sha-256", hashes.SHA256()), ("sha-512", hashes.SHA512()))
    }
    assert matches(certificate, (("sha-256", bytes(32)), right["sha-256"]))
    assert matches(certificate, (("sha-1", bytes(20)), right["sha-512"]))
    assert not matches(certificate, (("sha-256", bytes(32)), right["sha-512"]))
    assert not matches(certificate, (("sha-256", right["sha-256"][1][:31]),))


def test_a_flood_of_half_open_handshakes_is_bounded_and_makes_room() -> None:
    shared = node()
    shared.half_open = half_open.HalfOpen(shared.counters, 8)
    hello = first_flight()
    flood = [Association(shared, False, named(THEIRS)) for _ in range(40)]
    for association in flood:
        association.feed(hello, 100.0)
    assert len(shared.half_open) == 8
    assert sum(association.state is State.SHAKING for association in flood) == 8
    assert shared.counters["dtls_no_place"] == 32
    honest = Association(shared, False, named(THEIRS))
    honest.feed(hello, 100.0 + half_open.PATIENCE_S)
    assert honest.state is State.SHAKING
    assert flood[0].state is State.FAILED
    assert "took too long" in flood[0].why
    assert len(shared.half_open) == 8
    for association in (*flood, honest):
        association.on_timer(200.0)
    assert len(shared.half_open) == 0


def test_a_client_without_a_place_tries_again() -> None:
    shared = node(THEIRS)
    shared.half_open = half_open.HalfOpen(shared.counters, 1)
    other = Association(shared, True, named(OURS))
    other.start(5000.0)
    link = pair(client=shared)
    link.client.start(5000.0)
    assert link.client.state is State.WAITING
    other.close()
    both_keys(link.run())


def test_places_are_given_back() -> None:
    shared = node()
    pair(server=shared).run()
    assert len(shared.half_open) == 0
    association = Association(shared, False, named(THEIRS))
    association.feed(first_flight(), 1.0)
    assert len(shared.half_open) == 1
    association.close()
    assert len(shared.half_open) == 0


def test_only_a_client_hello_costs_memory() -> None:
    shared = node()
    association = Association(shared, False, named(THEIRS))
    for datagram in (b"", b"\x16", b"\x17\xfe\xfd" + bytes(8) + b"\0\1x", first_flight()[:-1]):
        association.feed(datagram, 1.0)
    assert association.state is State.WAITING
    assert len(shared.half_open) == 0


def test_a_fragment_cannot_claim_a_huge_message() -> None:
    hello = bytearray(first_flight())
    hello[14:17] = (MAX_MESSAGE_OCTETS + 1).to_bytes(3, "big")
    assert not is_plausible(bytes(hello))
    hello[14:17] = MAX_MESSAGE_OCTETS.to_bytes(3, "big")
    assert is_plausible(bytes(hello))


def test_a_handshake_without_end_is_cut() -> None:
    server = pair().server
    server.feed(first_flight(), 1.0)
    filler = b"\x17\xfe\xfd" + bytes(8) + (1000).to_bytes(2, "big") + bytes(1000)
    for _ in range(dtls.MOST_OCTETS // 1000 + 1):
        server.feed(filler, 1.0)
    assert server.why == "it sent more than a handshake has"


@given(st.lists(st.binary(max_size=1300), max_size=5))
@settings(max_examples=200, deadline=None)
def test_garbage_at_any_time_does_no_harm(garbage: list[bytes]) -> None:
    link = pair()
    for datagram in garbage:
        link.server.feed(datagram, link.now)
    assert link.server.state is State.WAITING
    link.run()
    for datagram in garbage:
        link.server.feed(datagram, link.now)
        link.client.feed(datagram, link.now)
    both_keys(link)
    assert link.server.state is link.client.state is State.SECURED


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_changed_handshake_never_gives_keys_that_differ(data: st.DataObject) -> None:
    """An attacker on the path can break a handshake off, and no more."""
    link = pair()
    which, position = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 1500))
    seen = 0

    def feed(original: object, datagram: bytes, now: float) -> None:
        nonlocal seen
        if seen == which:
            octets = bytearray(datagram)
            octets[position % len(octets)] ^= data.draw(st.integers(1, 255))
            datagram = bytes(octets)
        seen += 1
        original(datagram, now)  # type: ignore[operator]

    for end in (link.client, link.server):
        end.feed = lambda datagram, now, f=end.feed: feed(f, datagram, now)  # type: ignore[method-assign]
    link.run()
    if link.client.keys and link.server.keys:
        assert link.client.keys.send == link.server.keys.receive
        assert link.client.keys.receive == link.server.keys.send


@given(st.lists(st.integers(0, 700), max_size=12))
def test_a_flight_is_cut_into_datagrams_of_whole_records(sizes: list[int]) -> None:
    records = [b"\x16\xfe\xfd" + bytes(8) + size.to_bytes(2, "big") + bytes(size) for size in sizes]
    cut = datagrams(b"".join(records), 1200)
    assert b"".join(cut) == b"".join(records)
    assert all(len(datagram) <= 1200 for datagram in cut)


def test_keys_are_never_shown() -> None:
    keys, _ = both_keys(pair().run())
    assert keys.send[0].hex() not in repr(keys) + repr(vars(Keys))
    assert repr(keys.send[0]) not in repr(keys)


def first_flight() -> bytes:
    """A ClientHello."""
    client = Association(node(THEIRS), True, named(OURS))
    client.start(0.0)
    (hello,) = client.drain()
    return hello


def client_context(
    certificate: Certificate | None = None, srtp: bytes = b"SRTP_AEAD_AES_128_GCM"
) -> SSL.Context:
    """Of an independent peer, which trusts anyone."""
    context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    context.set_max_proto_version(0xFEFD)
    if certificate is not None:
        context.use_certificate(certificate.certificate)
        context.use_privatekey(certificate.key)
    if srtp:
        context.set_tlsext_use_srtp(srtp)
    return context


def shake(peer: SSL.Connection, server: Association) -> str:
    """A handshake of OpenSSL itself with an association; why it failed."""
    peer.set_connect_state()
    for _ in range(10):
        try:
            peer.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error:
            break
        try:
            flight = peer.bio_read(65536)
        except SSL.WantReadError:
            break
        for datagram in datagrams(flight, 1200):
            server.feed(datagram, 1.0)
        for datagram in server.drain():
            peer.bio_write(datagram)
    return server.why


def rsa_certificate() -> Certificate:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([])
    certificate = x509.CertificateBuilder(
        name, name, key.public_key(), 7, NOW, NOW + timedelta(1)
    ).sign(key, hashes.SHA256())
    digest = certificate.fingerprint(hashes.SHA256())
    return Certificate(key, certificate, digest)  # type: ignore[arg-type]
