"""One DTLS 1.2 association of one leg, over OpenSSL on memory only (RFC 5764, RFC 8842).

The SRTP keys are given out when, and only when, the peer has proved to have the certificate
that its description named (RFC 8122). Which datagrams are the peer's is the caller's affair.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from enum import Enum
from typing import NamedTuple

from OpenSSL import SSL, crypto

from relay.webrtc.certificate import Certificate
from relay.webrtc.dtls_record import datagrams, is_client_hello, is_plausible
from relay.webrtc.half_open import HalfOpen

MTU = 1200  # octets of a datagram; every path that ICE finds carries it
WITHIN_S = 20.0
KEPT_S = 10.0  # for a peer that has not had our last flight; then 75 KiB of OpenSSL's are freed
FIRST_RESEND_S, LONGEST_RESEND_S = 0.4, 6.0
MOST_OCTETS = 65536  # of all that a handshake receives
_DTLS_1_2 = 0xFEFD
_EXPORTER = b"EXTRACTOR-dtls_srtp"
_CIPHERS = b":".join(
    b"ECDHE-%s-%s" % (kind, cipher)
    for cipher in (b"AES128-GCM-SHA256", b"CHACHA20-POLY1305", b"AES256-GCM-SHA384")
    for kind in (b"ECDSA", b"RSA")
)

_NOT_NAMED = "its certificate is not the one whose fingerprint its description has"

FingerprintOf = tuple[str, bytes]  # a hash by its name in SDP, and the digest
# Most preferred first: only those of the first kind that a description has count.
_HASHES = {"sha-256": hashlib.sha256, "sha-384": hashlib.sha384, "sha-512": hashlib.sha512}


class _Profile(NamedTuple):
    suite: str  # as SDES names it
    key_octets: int
    salt_octets: int


_PROFILES = {
    b"SRTP_AEAD_AES_128_GCM": _Profile("AEAD_AES_128_GCM", 16, 12),
    b"SRTP_AES128_CM_SHA1_80": _Profile("AES_CM_128_HMAC_SHA1_80", 16, 14),
}


class Keys:
    """SRTP master keys and salts, for packets from the peer and for ours. Never shown."""

    __slots__ = ("receive", "send", "suite")

    def __init__(self, suite: str, receive: tuple[bytes, bytes], send: tuple[bytes, bytes]) -> None:
        self.suite, self.receive, self.send = suite, receive, send


class State(Enum):
    """A failed or closed association never comes back: another one takes its place."""

    WAITING = "nothing sent or received yet"
    SHAKING = "in the handshake"
    SECURED = "keys were given out"
    FAILED = "refused, or no answer"


class Dtls:
    """What all associations of a node share: the certificate, and the half-open ones."""

    def __init__(self, certificate: Certificate, counters: Counter[str]) -> None:
        self.counters = counters
        self.half_open = HalfOpen(counters)
        self.context = context = SSL.Context(SSL.DTLS_METHOD)
        context.set_min_proto_version(_DTLS_1_2)
        context.set_max_proto_version(_DTLS_1_2)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_QUERY_MTU)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_cipher_list(_CIPHERS)
        context.use_certificate(certificate.certificate)
        context.use_privatekey(certificate.key)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _is_named)
        context.set_tlsext_use_srtp(b":".join(_PROFILES))


class Association:
    """`feed` takes the peer's datagrams, `drain` gives ours; the outcome is `keys` or `why`."""

    def __init__(
        self, shared: Dtls, is_client: bool, fingerprints: tuple[FingerprintOf, ...]
    ) -> None:
        self._shared = shared
        self._is_client = is_client
        self._fingerprints = fingerprints
        self._tls: SSL.Connection | None = None
        self._flight: list[bytes] = []
        self._outgoing: list[bytes] = []
        self._octets = 0
        self._resend_at: float | None = None
        self._resend_s = FIRST_RESEND_S
        self._deadline: float | None = None
        self.state = State.WAITING
        self.keys: Keys | None = None
        self.why = ""

    def start(self, now: float) -> None:
        """The path is there: the client speaks, the server waits for so long. Idempotent."""
        if self.state is not State.WAITING:
            return
        if self._deadline is None:
            self._deadline = now + WITHIN_S
        if self._is_client:
            if self._begin(now):
                self._shake(now)
            else:
                self._resend_at = now + FIRST_RESEND_S

    def feed(self, datagram: bytes, now: float) -> None:
        """One datagram from the peer's address."""
        if not is_plausible(datagram):
            self._shared.counters["dtls_malformed"] += 1
            return
        if self.state is State.WAITING and not self._is_client and is_client_hello(datagram):
            self._begin(now)
        if self._tls is None:
            return
        if self.state is State.SECURED:
            self._hear(self._tls, datagram)
        elif self.state is State.SHAKING:
            self._octets += len(datagram)
            if self._octets > MOST_OCTETS:
                self._fail("it sent more than a handshake has")
                return
            self._tls.bio_write(datagram)
            self._shake(now)

    def drain(self) -> list[bytes]:
        """Datagrams for the peer."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def next_timer(self) -> float | None:
        if self._deadline is None:
            return None
        return self._deadline if self._resend_at is None else min(self._deadline, self._resend_at)

    def on_timer(self, now: float) -> None:
        due = self.next_timer()
        if due is None or now < due or self._deadline is None:
            return
        if self.state is State.SECURED:
            self.close()
        elif now >= self._deadline:
            self._fail(f"no DTLS handshake within {WITHIN_S:.0f} s")
        elif self._tls is None:
            self.start(now)
        else:
            self._resend(self._tls, now)

    def give_way(self) -> None:
        """The node has too many handshakes under way, and this one takes the longest."""
        self._fail("its DTLS handshake took too long while many others waited")

    def close(self) -> None:
        """The leg has ended, or goes on with another association."""
        self._shared.half_open.leave(self)
        self._tls = self._deadline = self._resend_at = None

    def _begin(self, now: float) -> bool:
        if not self._shared.half_open.enter(self, now):
            return False
        self._tls = SSL.Connection(self._shared.context, None)
        self._tls.set_app_data(self._fingerprints)
        self._tls.set_ciphertext_mtu(MTU)
        if self._is_client:
            self._tls.set_connect_state()
        else:
            self._tls.set_accept_state()
        self.state = State.SHAKING
        if self._deadline is None:
            self._deadline = now + WITHIN_S
        return True

    def _shake(self, now: float) -> None:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self._flush(self._tls, now)
            return
        except SSL.Error as error:
            self._flush(self._tls, now)  # the alert that tells the peer why
            self._fail(_text(error))
            return
        self._flush(self._tls, now)
        self._secure(self._tls, now)

    def _secure(self, tls: SSL.Connection, now: float) -> None:
        """The handshake is done; is it with the one that the description named?"""
        certificate = tls.get_peer_certificate()
        profile = _PROFILES.get(tls.get_selected_srtp_profile())
        if certificate is None or not matches(certificate, self._fingerprints):
            self._fail(_NOT_NAMED)
        elif profile is None:
            self._fail("its DTLS has no SRTP suite in common with ours")
        else:
            self.keys = _keys(tls, profile, self._is_client)
            self.state = State.SECURED
            self._flight = []
            self._deadline, self._resend_at = now + KEPT_S, None
            self._shared.half_open.leave(self)
            self._shared.counters["dtls_secured"] += 1

    def _hear(self, tls: SSL.Connection, datagram: bytes) -> None:
        """A repeated last flight is answered by ours; nothing else means anything to us."""
        tls.bio_write(datagram)
        try:
            while tls.recv(2048):
                pass  # data channels were not negotiated
        except SSL.WantReadError:
            self._outgoing += self._written(tls)
        except SSL.Error:
            self.close()  # closed by the peer: its keys stay until the call ends

    def _resend(self, tls: SSL.Connection, now: float) -> None:
        """OpenSSL's own timer begins with a second, and its records are new ones, which a peer
        that has answered needs; until then the last flight goes out once more as it was."""
        if tls.DTLSv1_handle_timeout():
            self._flight = self._written(tls)
        self._outgoing += self._flight
        self._resend_s = min(2 * self._resend_s, LONGEST_RESEND_S)
        self._resend_at = now + self._resend_s

    def _flush(self, tls: SSL.Connection, now: float) -> None:
        written = self._written(tls)
        if written:
            self._outgoing += written
            self._flight = written
            self._resend_s = FIRST_RESEND_S
            self._resend_at = now + FIRST_RESEND_S

    @staticmethod
    def _written(tls: SSL.Connection) -> list[bytes]:
        try:
            return datagrams(tls.bio_read(MOST_OCTETS), MTU)
        except SSL.WantReadError:
            return []

    def _fail(self, why: str) -> None:
        self.state, self.why = State.FAILED, why
        self._flight = []
        self._shared.counters["dtls_failed"] += 1
        self.close()


def matches(certificate: crypto.X509, fingerprints: tuple[FingerprintOf, ...]) -> bool:
    """Whether one of them is this certificate's, by the best hash among them (RFC 8122
    section 5.1). Compared in constant time; the certificate is not looked into."""
    for name, algorithm in _HASHES.items():
        digests = [digest for each, digest in fingerprints if each == name]
        if digests:
            ours = algorithm(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)).digest()
            return any(hmac.compare_digest(ours, digest) for digest in digests)
    return False


def _is_named(
    tls: SSL.Connection, certificate: crypto.X509, problem: int, depth: int, holds: int
) -> bool:
    """OpenSSL's question about each certificate: an alert tells the peer of a wrong one.

    Who issued it and until when means nothing here (RFC 8122 section 6.2).
    """
    return depth > 0 or matches(certificate, tls.get_app_data())


def _keys(tls: SSL.Connection, profile: _Profile, is_client: bool) -> Keys:
    """RFC 5764 section 4.2."""
    key, salt = profile.key_octets, profile.salt_octets
    exported = tls.export_keying_material(_EXPORTER, 2 * (key + salt))
    client = exported[:key], exported[2 * key : 2 * key + salt]
    server = exported[key : 2 * key], exported[2 * key + salt :]
    receive, send = (server, client) if is_client else (client, server)
    return Keys(profile.suite, receive, send)


def _text(error: SSL.Error) -> str:
    """OpenSSL's last word, without its file names."""
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reason = str(reasons[-1][-1]) if reasons else "broken off"
    if reason == "certificate verify failed":
        return _NOT_NAMED
    return f"its DTLS handshake failed: {reason}"
