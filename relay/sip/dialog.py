"""Dialogs (RFC 3261 section 12): identity, CSeq, route set and remote target."""

from __future__ import annotations

from relay.errors import MalformedMessage, OutOfOrder
from relay.sip.fields import Headers
from relay.sip.headers import NameAddr
from relay.sip.message import Message, Request, Response
from relay.sip.uri import OtherUri, SipUri

MAX_FORWARDS = 70


class Dialog:
    """One dialog from our side; early until `confirm` or a 2xx made it.

    `local` and `remote` carry the tags. `target` is the remote target (their Contact),
    `contact` ours. `route_set` is in the order in which requests of ours visit it.
    """

    __slots__ = (
        "call_id",
        "confirmed",
        "contact",
        "local",
        "local_cseq",
        "remote",
        "remote_cseq",
        "route_set",
        "target",
    )

    def __init__(
        self,
        call_id: str,
        local: NameAddr,
        remote: NameAddr,
        target: SipUri | OtherUri,
        route_set: tuple[NameAddr, ...] = (),
        contact: NameAddr | None = None,
    ) -> None:
        self.call_id = call_id
        self.local = local
        self.remote = remote
        self.target = target
        self.route_set = route_set
        self.contact = contact
        self.local_cseq = 0
        self.remote_cseq: int | None = None
        self.confirmed = False

    @staticmethod
    def uas(request: Request, local_tag: str, contact: NameAddr | str | None = None) -> Dialog:
        """The dialog that our 101 to 299 response to `request` creates (section 12.1.1).

        Without a Contact (RFC 2543) the From URI is the target. Raises MalformedMessage.
        """
        peer = request.contact
        dialog = Dialog(
            request.call_id,
            request.to.with_tag(local_tag),
            request.from_,
            peer.uri if peer is not None else request.from_.uri,
            tuple(request.record_routes),
            _as_contact(contact),
        )
        dialog.remote_cseq = request.cseq.number
        return dialog

    @staticmethod
    def uac(request: Request, response: Response, contact: NameAddr | str | None = None) -> Dialog:
        """The dialog that `response` to our `request` creates (section 12.1.2).

        Our Contact is that of the request unless given. Raises MalformedMessage.
        """
        peer = response.contact
        dialog = Dialog(
            request.call_id,
            request.from_,
            response.to,
            peer.uri if peer is not None else SipUri.parse(request.uri),
            tuple(reversed(response.record_routes)),
            _as_contact(contact) or request.contact,
        )
        dialog.local_cseq = request.cseq.number
        dialog.confirmed = response.status >= 200
        return dialog

    @staticmethod
    def of_late_answer(response: Response) -> Dialog:
        """The dialog of a 2xx to an INVITE of ours that is forgotten. Raises MalformedMessage."""
        peer = response.contact
        dialog = Dialog(
            response.call_id,
            response.from_,
            response.to,
            peer.uri if peer is not None else response.to.uri,
            tuple(reversed(response.record_routes)),
        )
        dialog.local_cseq = response.cseq.number
        dialog.confirmed = True
        return dialog

    @staticmethod
    def can_reach(request: Request) -> bool:
        """Whether requests of ours could be sent in the dialog of `request`."""
        return isinstance(Dialog.next_hop_of(request), SipUri)

    @staticmethod
    def next_hop_of(request: Request) -> SipUri | OtherUri:
        """Where requests of ours would go in the dialog of `request`."""
        routes = request.record_routes
        return (routes[0] if routes else request.contact or request.from_).uri

    @property
    def local_tag(self) -> str | None:
        return self.local.tag

    @property
    def remote_tag(self) -> str | None:
        """None for an RFC 2543 peer."""
        return self.remote.tag

    @property
    def key(self) -> tuple[str, str | None, str | None]:
        """(Call-ID, local tag, remote tag): what makes a dialog itself."""
        return (self.call_id, self.local.tag, self.remote.tag)

    def confirm(self, response: Response | None = None) -> None:
        """A 2xx made the early dialog final.

        The UAC passes the 2xx: route set and target are taken anew (section 13.2.2.4).
        """
        self.confirmed = True
        if response is not None:
            self.route_set = tuple(reversed(response.record_routes))
            self.refresh_target(response)

    def refresh_target(self, message: Message) -> None:
        """A target refresh (re-INVITE, UPDATE, or their 2xx) moves the remote target."""
        contact = message.contact
        if contact is not None and isinstance(contact.uri, SipUri):
            self.target = contact.uri  # any other one could not be sent to: the old one stays

    def receive(self, request: Request) -> None:
        """Check and keep the CSeq of a request inside the dialog (section 12.2.2).

        Raises OutOfOrder (500) when it is lower than the last one. ACK and CANCEL carry the
        number of their INVITE and are not checked.
        """
        number = request.cseq.number
        if request.method in ("ACK", "CANCEL"):
            return
        if self.remote_cseq is not None and number < self.remote_cseq:
            raise OutOfOrder("CSeq is lower than that of an earlier request")
        self.remote_cseq = number

    def request(self, method: str, contact: NameAddr | str | None = None) -> Request:
        """A new request inside the dialog; the Via is the transaction layer's."""
        self.local_cseq += 1
        request = self._request(method, self.local_cseq)
        ours = _as_contact(contact) or self.contact
        if ours is not None and method in ("INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"):
            request.headers.add("Contact", str(ours))
        return request

    def ack(self, invite_cseq: int) -> Request:
        """The ACK to a 2xx of the INVITE with that number (section 13.2.2.4)."""
        return self._request("ACK", invite_cseq)

    def next_hop_uri(self) -> SipUri:
        """Where requests go: the first route, else the remote target (section 12.2.1.1).

        Raises MalformedMessage when that is no SIP URI.
        """
        uri = self.route_set[0].uri if self.route_set else self.target
        if not isinstance(uri, SipUri):
            raise MalformedMessage("next hop is not a SIP URI")
        return uri

    def _request(self, method: str, cseq: int) -> Request:
        uri: SipUri | OtherUri = self.target
        routes = [str(route) for route in self.route_set]
        if routes and not _is_loose(self.route_set[0].uri):
            # A strict router: it wants itself as Request-URI and the target as last route.
            uri = self.route_set[0].uri
            routes = [*routes[1:], f"<{self.target}>"]
        fields = [("Route", route) for route in routes]
        fields += [
            ("Max-Forwards", str(MAX_FORWARDS)),
            ("From", str(self.local)),
            ("To", str(self.remote)),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq} {method}"),
        ]
        return Request(method, _as_request_uri(uri), Headers.of_canonical(fields))


def _is_loose(uri: SipUri | OtherUri) -> bool:
    return isinstance(uri, SipUri) and uri.param("lr") is not None


def _as_request_uri(uri: SipUri | OtherUri) -> str:
    # RFC 3261 section 19.1.1: headers and the method parameter may not be there.
    if not isinstance(uri, SipUri) or not (uri.headers or uri.param("method") is not None):
        return str(uri)
    params = tuple(pair for pair in uri.params if pair[0].lower() != "method")
    return str(uri.replace(headers="", params=params))


def _as_contact(contact: NameAddr | str | None) -> NameAddr | None:
    return NameAddr.parse(contact) if isinstance(contact, str) else contact
