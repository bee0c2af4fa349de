"""The `Keying` of a leg by ICE and DTLS-SRTP: a voice client's (RFC 8839, 8842, 8843, 5763).

We are ICE-lite with one candidate, our port of the leg, so the peer's own candidates are not
looked at: whoever proves the password by a check is heard, wherever inside the region it is.
In our offers the peer may choose who begins DTLS; in our answers the peer begins if it can.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from os import urandom
from typing import NamedTuple

from relay.errors import NotAcceptable, WrongAnswer
from relay.sdp.description import Fingerprint, IceCredentials, IceDtls, MediaAddress
from relay.sdp.keying import Terms
from relay.sdp.session import Stream

# Octets of the hashes that a certificate may be known by (RFC 8122 section 5); sha-1 and
# older ones prove nothing today.
HASHES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
MAX_FINGERPRINTS = 16
# A host candidate's of the first component (RFC 8445 section 5.1.2.1).
PRIORITY = (126 << 24) + (65535 << 8) + 255
PROFILE = "UDP/TLS/RTP/SAVP"
FIRST_MID = "0"  # of a session that we describe first
_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PWD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_MID = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,32}")
_HEX = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){15,63}")
_OFFERED_ROLES = ("actpass", "active", "passive")


class Remote(NamedTuple):
    """What a peer's description says of its ICE and DTLS; `setup` is its a=setup or ""."""

    ufrag: str
    pwd: str
    fingerprints: tuple[Fingerprint, ...]
    setup: str
    mid: str
    bundled: bool


class Dtls:
    """One leg's credentials and roles, and what the open offer would change of them."""

    __slots__ = ("_agreed", "_chosen", "_fingerprint", "_mid", "_next", "_own", "_random")

    def __init__(self, fingerprint: Fingerprint, random: Callable[[int], bytes] = urandom) -> None:
        """`fingerprint` is that of our certificate."""
        self._fingerprint = fingerprint
        self._random = random
        self._agreed: IceDtls | None = None
        self._next: IceDtls | None = None
        self._chosen: Remote | None = None
        self._own = self._credentials()
        self._mid: tuple[str, bool] = FIRST_MID, True  # and whether it is in a BUNDLE group

    # --- the peer offers

    def choose(self, stream: Stream) -> None:
        remote = read(stream)
        if remote.setup not in ("", *_OFFERED_ROLES):
            raise NotAcceptable("a=setup of an offer is actpass, active or passive")
        self._chosen = remote

    def accept(self) -> None:
        remote, held = self._chosen, self._agreed
        assert remote is not None
        if held is not None and (held.remote_ufrag, held.remote_pwd) != remote[:2]:
            self._own = self._credentials()  # it restarts ICE (RFC 8839 section 4.4.3)
        client = remote.setup == "passive"
        if held is not None and remote.setup == "actpass" and _same(held, remote):
            client = held.dtls_client  # RFC 8842 section 5.3: the association goes on
        self._mid = remote.mid, remote.bundled
        self._next = self._joined(remote, client)

    def answer(self, local: MediaAddress) -> Terms:
        assert self._next is not None
        return self._terms("active" if self._next.dtls_client else "passive", local)

    # --- we offer

    def offer(self, local: MediaAddress) -> Terms:
        terms = self._terms("actpass", local)
        return terms._replace(lines=(*terms.lines, "a=rtcp-mux-only"))

    def repeat(self, said: Stream) -> None:
        """Our credentials are those that were said."""

    def take_answer(self, stream: Stream) -> None:
        try:
            remote = read(stream)
        except NotAcceptable as error:
            raise WrongAnswer(f"the answer: {error}") from None
        if remote.setup not in ("", "active", "passive"):
            raise WrongAnswer("the answer's a=setup is neither active nor passive")
        self._next = self._joined(remote, remote.setup == "passive")

    # --- what became of it

    def keep(self) -> None:
        self._next = held = self._agreed
        if held is not None:
            self._own = IceCredentials(held.local_ufrag, held.local_pwd)

    def agree(self) -> IceDtls | None:
        self._agreed = self._next
        return self._next

    # --- inside

    def _credentials(self) -> IceCredentials:
        return IceCredentials(*(b64encode(self._random(octets)).decode() for octets in (6, 18)))

    def _joined(self, remote: Remote, client: bool) -> IceDtls:
        own = self._own
        return IceDtls(own.ufrag, own.pwd, remote.ufrag, remote.pwd, remote.fingerprints, client)

    def _terms(self, setup: str, local: MediaAddress) -> Terms:
        mid, bundled = self._mid
        candidate = f"1 1 UDP {PRIORITY} {local.host} {local.port} typ host"
        lines = (
            *((f"a=mid:{mid}",) if mid else ()),
            "a=msid:voice audio",
            "a=rtcp-mux",
            f"a=setup:{setup}",
            f"a=fingerprint:{self._fingerprint}",
            f"a=ice-ufrag:{self._own.ufrag}",
            f"a=ice-pwd:{self._own.pwd}",
            f"a=candidate:{candidate}",
            "a=end-of-candidates",
        )
        group = (f"a=group:BUNDLE {mid}",) if mid and bundled else ()
        return Terms(PROFILE, lines, (*group, "a=ice-lite", "a=ice-options:ice2"), self._own)


def read(stream: Stream) -> Remote:
    """A description's ICE and DTLS, its own or the session's. Raises NotAcceptable (488)."""
    section = stream.section
    if not section.dtls:
        raise NotAcceptable("a voice client's audio is UDP/TLS/RTP/SAVPF (DTLS-SRTP)")
    if section.attribute("rtcp-mux") is None:
        raise NotAcceptable("a=rtcp-mux is missing: RTCP of a voice client has no port of its own")
    if stream.session.attribute("ice-lite") is not None:
        raise NotAcceptable("a=ice-lite: the relay is ICE-lite itself, one side has to be full")
    ufrag, pwd = stream.attribute("ice-ufrag"), stream.attribute("ice-pwd")
    if ufrag is None or pwd is None:
        raise NotAcceptable("a=ice-ufrag or a=ice-pwd is missing")
    if not (_UFRAG.fullmatch(ufrag) and _PWD.fullmatch(pwd)):
        raise NotAcceptable("a=ice-ufrag or a=ice-pwd is not of the form of RFC 8839")
    mid = section.attribute("mid") or ""
    if _MID.fullmatch(mid) is None:
        mid = ""
    groups = [group.split() for group in stream.values("group")]
    bundled = any(group[:1] == ["BUNDLE"] and mid in group[1:] for group in groups)
    setup = (stream.attribute("setup") or "").lower()
    return Remote(ufrag, pwd, _fingerprints(stream.values("fingerprint")), setup, mid, bundled)


def _fingerprints(values: list[str]) -> tuple[Fingerprint, ...]:
    """Those of the hashes that we know; one is enough, as each of them is strong."""
    if not values:
        raise NotAcceptable("a=fingerprint is missing")
    found = []
    for value in values[:MAX_FINGERPRINTS]:
        name, _, text = value.partition(" ")
        if (octets := HASHES.get(name.lower())) is None:
            continue
        text = text.strip()
        if _HEX.fullmatch(text) is None or len(text) != 3 * octets - 1:
            raise NotAcceptable(f"a=fingerprint: a {name.lower()} is {octets} octets in hex")
        found.append(Fingerprint(name.lower(), bytes.fromhex(text.replace(":", ""))))
    if not found:
        raise NotAcceptable("a=fingerprint: its hash is not sha-256, sha-384 or sha-512")
    return tuple(dict.fromkeys(found))


def _same(held: IceDtls, remote: Remote) -> bool:
    return set(held.fingerprints) == set(remote.fingerprints)
