"""Which SDES keys hold on one leg, over all its offers and answers (RFC 4568 section 7).

Our own key of a leg stays as long as the peer's does, so that a hold or a session refresh
goes on with the same counters. When the peer offers another key, ours changes as well: it
will start both directions afresh, and a packet count that only one side has kept would make
the other one deaf.
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from os import urandom
from typing import NamedTuple

from relay.errors import NotAcceptable, WrongAnswer
from relay.sdp.crypto import Crypto, Srtp, new_key, parse_crypto, usable
from relay.sdp.description import MediaAddress, SrtpKey, SrtpKeys
from relay.sdp.keying import Terms
from relay.sdp.session import MediaSection, Stream


class Pair(NamedTuple):
    """One line from each side, of one suite, and whether the profile says SRTP."""

    theirs: Crypto
    ours: Crypto
    keyed: bool

    @property
    def keys(self) -> SrtpKeys:
        return SrtpKeys(receive=self.theirs.keys, send=self.ours.keys[0])


class Sdes:
    """The `Keying` of a leg whose keys stand in its descriptions, or that is plain RTP."""

    __slots__ = ("_agreed", "_chosen", "_next", "_offered", "_random", "_settled", "srtp")

    def __init__(self, srtp: Srtp, random: Callable[[int], bytes] = urandom) -> None:
        self.srtp = srtp
        self._random = random
        self._chosen: tuple[Crypto, bool] | None = None  # and whether the profile says SRTP
        self._agreed: Pair | None = None
        self._next: Pair | None = None
        self._offered: tuple[Crypto, ...] = ()
        self._settled = False  # there has been an answer, with keys or without

    # --- the peer offers

    def choose(self, stream: Stream) -> None:
        section = stream.section
        crypto = self._choice(section)
        self._chosen = None if crypto is None else (crypto, section.keyed)

    def _choice(self, section: MediaSection) -> Crypto | None:
        """The line that would be used; None for plain RTP. Raises NotAcceptable."""
        if section.dtls:
            raise NotAcceptable(f"{section.protocol} is not carried: RTP/AVP and RTP/SAVP are")
        mode, suites = self.srtp
        if mode == "off":
            if section.keyed:
                raise NotAcceptable(f"{section.protocol} is not carried: srtp is off on this trunk")
            return None
        values = section.crypto()
        if not section.keyed and not values:
            if mode == "required":
                raise NotAcceptable("this trunk requires SRTP (a=crypto with RTP/SAVP)")
            return None
        try:
            lines = usable(values, suites)
        except NotAcceptable:
            if section.keyed or mode == "required":
                raise
            return None  # best effort: the peer can do without
        held = self._agreed
        same = held and [line for line in lines if line.keys == held.theirs.keys]
        return same[0] if same else lines[0]

    def accept(self) -> None:
        if self._chosen is None:
            self._next = None
            return
        theirs, keyed = self._chosen
        held = self._agreed
        if held is not None and held.theirs.keys == theirs.keys:
            key = held.ours.keys[0]
        else:
            key = new_key(theirs.suite, self._random)
        self._next = Pair(theirs, Crypto(theirs.tag, theirs.suite, (key,)), keyed)

    def answer(self, local: MediaAddress) -> Terms:
        """One line, or none for plain RTP."""
        return Terms() if self._next is None else Terms(lines=(self._next.ours.line(),))

    # --- we offer

    def offer(self, local: MediaAddress) -> Terms:
        """RTP/SAVP with its lines, or best effort.

        "optional" offers a=crypto in RTP/AVP: who knows SRTP takes it, others pass it over,
        and no second INVITE is needed. Later offers say what was agreed.
        """
        keyed = self.srtp.mode == "required"
        if (held := self._agreed) is not None:
            keyed = keyed or held.keyed
            self._offered = (held.ours,)
        elif self.srtp.mode == "off" or (self._settled and not keyed):
            self._offered = ()
        else:
            self._offered = tuple(
                Crypto(tag, suite, (new_key(suite, self._random),))
                for tag, suite in enumerate(self.srtp.suites, 1)
            )
        lines = tuple(line.line() for line in self._offered)
        return Terms("RTP/SAVP" if keyed else "RTP/AVP", lines)

    def take_answer(self, stream: Stream) -> None:
        """The tag must be one that was offered, and the suite the one that it stood for."""
        section, offered = stream.section, self._offered
        if section.dtls:
            raise WrongAnswer(f"the answer is {section.protocol}, which was not offered")
        values = section.crypto() if offered else []
        if not values:
            if section.keyed:
                said = "has no a=crypto" if offered else "was not offered"
                raise WrongAnswer(f"the answer is {section.protocol}, which {said}")
            if self.srtp.mode == "required":
                raise WrongAnswer("the answer has no a=crypto: this trunk requires SRTP")
            self._next = None
            return
        if len(values) > 1:
            raise WrongAnswer("the answer has more than one a=crypto line")
        try:
            (theirs,) = usable(values, self.srtp.suites)
        except NotAcceptable as error:
            raise WrongAnswer(f"the answer: {error}") from None
        ours = next((line for line in offered if line.tag == theirs.tag), None)
        if ours is None:
            raise WrongAnswer(f"the answer's a=crypto tag {theirs.tag} was not offered")
        if ours.suite != theirs.suite:
            raise WrongAnswer(
                f"the answer's a=crypto tag {theirs.tag} was {ours.suite}, not {theirs.suite}"
            )
        if any(_same(key, ours.keys[0]) for key in theirs.keys):
            raise WrongAnswer("the answer repeats our own key")
        self._next = Pair(theirs, ours, section.keyed)

    def repeat(self, said: Stream) -> None:
        self._offered = tuple(parse_crypto(value) for value in said.section.crypto())

    # --- what became of it

    def keep(self) -> None:
        self._next = self._agreed

    def agree(self) -> SrtpKeys | None:
        self._agreed = self._next
        self._settled = True
        return None if self._next is None else self._next.keys


def _same(one: SrtpKey, other: SrtpKey) -> bool:
    return compare_digest(one.key + one.salt, other.key + other.salt)
