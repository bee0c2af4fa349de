"""What an offer/answer says about one leg's media, in the terms of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class MediaAddress(NamedTuple):
    """Where RTP and RTCP go. `rtcp_port == port` means rtcp-mux (RFC 5761)."""

    host: str
    port: int
    rtcp_port: int


class Way(NamedTuple):
    """Where a peer wants the media of one section and which way they go.

    `remote` is None for a hold by 0.0.0.0, and where ICE finds the address; `direction` says
    that hold in today's words, `written` is the direction as the peer put it.
    """

    remote: MediaAddress | None
    direction: str
    written: str


class Suite(NamedTuple):
    """An SRTP crypto suite by its SDES name (RFC 4568, 6188, 7714); sizes in octets."""

    name: str
    key_octets: int
    salt_octets: int


SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("AES_CM_128_HMAC_SHA1_80", 16, 14),
        Suite("AES_CM_128_HMAC_SHA1_32", 16, 14),
        Suite("AES_256_CM_HMAC_SHA1_80", 32, 14),
        Suite("AEAD_AES_128_GCM", 16, 12),
        Suite("AEAD_AES_256_GCM", 32, 12),
    )
}


@dataclass(frozen=True, slots=True, repr=False)
class SrtpKey:
    """One master key with its salt; `mki` is empty unless the peer names its keys.

    Never shown: neither `repr` nor a log line has any of it.
    """

    suite: str
    key: bytes
    salt: bytes
    mki: bytes = b""


@dataclass(frozen=True, slots=True, repr=False)
class SrtpKeys:
    """One leg's keys: `receive` opens what the peer sends, `send` closes what we send to it.

    Several in `receive` are told apart by their MKI (all of one length then).
    """

    receive: tuple[SrtpKey, ...]
    send: SrtpKey


class Fingerprint(NamedTuple):
    """The hash of a certificate (RFC 8122): `algorithm` as "sha-256", `digest` its octets."""

    algorithm: str
    digest: bytes

    def __str__(self) -> str:
        """As a=fingerprint has it."""
        return f"{self.algorithm} {self.digest.hex(':').upper()}"


@dataclass(frozen=True, slots=True, repr=False)
class IceCredentials:
    """Ours for ICE, of one leg until the peer restarts. Of an offer that is not answered yet
    they are all that is known: the peer may check before its answer is here."""

    ufrag: str
    pwd: str


@dataclass(frozen=True, slots=True, repr=False)
class IceDtls:
    """What the descriptions of both sides agreed on for one leg (RFC 8839, 8842).

    `local_*` are ours: a check's USERNAME is `local_ufrag:remote_ufrag`, and `local_pwd` proves
    it. One of `fingerprints` must be that of the peer's certificate. `dtls_client` is our role:
    we speak first when the peer is passive. A new `local_ufrag` is an ICE restart; other
    `remote_*` under the same one are another phone that answers. Other `fingerprints` or the
    other role are a new DTLS association (RFC 8842 section 4); the old one holds until then.
    """

    local_ufrag: str
    local_pwd: str
    remote_ufrag: str
    remote_pwd: str
    fingerprints: tuple[Fingerprint, ...]
    dtls_client: bool = False


# What a leg's media are secured by, as it was agreed; None is plain RTP.
Secrets = SrtpKeys | IceDtls | None


class Coding(NamedTuple):
    """How one leg of a transcoded call writes its audio, both ways.

    `codec` is "OPUS", "PCMU" or "PCMA"; events (RFC 4733) and comfort noise (RFC 3389) have
    payload types of this leg's own, at `clock_hz`. `fec` asks for Opus in-band FEC.
    """

    codec: str
    payload_type: int
    clock_hz: int
    telephone_event: int | None = None
    comfort_noise: int | None = None
    ptime_ms: int = 20
    fec: bool = False


class LegMedia(NamedTuple):
    """What the engine must know of one leg after an offer/answer.

    `payload_types` are those this peer may send; a packet of any other is dropped and
    counted. `telephone_event` is the payload type of this peer's RFC 4733 events as they are
    sent on, or None, with `clock_hz` the audio codec's RTP clock. `may_send`/`may_receive`
    follow the negotiated direction from the peer's point of view. `symmetric` allows one
    latch. `payload_map` has the numbers that this peer uses and its partner knows under
    others, as (received, sent on). `srtp` is None for plain RTP. With `webrtc` the address and
    the keys come from ICE and DTLS: `remote` and `srtp` are None, and nothing passes until both
    are done. `coding` is set on both legs of a call that is transcoded, on none otherwise.
    """

    remote: MediaAddress | None
    payload_types: frozenset[int]
    telephone_event: int | None = None
    clock_hz: int = 8000
    may_send: bool = True
    may_receive: bool = True
    symmetric: bool = False
    payload_map: tuple[tuple[int, int], ...] = ()
    srtp: SrtpKeys | None = None
    webrtc: IceDtls | None = None
    coding: Coding | None = None
