"""Dialogs: identity, route sets, CSeq (RFC 3261 section 12)."""

from __future__ import annotations

import pytest

from relay.errors import MalformedMessage, OutOfOrder
from relay.sip.dialog import Dialog
from relay.sip.message import Request, Response
from tests.unit.sip_samples import request

VIA = "SIP/2.0/UDP pc33.atlanta.example.com;branch=z9hG4bK776asdhds"


def _invite(*routes: str) -> Request:
    return request(via=VIA, cseq=7, extra=tuple(("Record-Route", route) for route in routes))


def _answer(invite: Request, status: int = 200, contact: str = "<sip:bob@192.0.2.4>") -> Response:
    response = invite.response(status, to_tag="bobtag")
    response.headers.add("Contact", contact)
    return response


def test_the_uas_takes_record_route_in_order() -> None:
    dialog = Dialog.uas(_invite("<sip:p2;lr>, <sip:p1;lr>"), "ours", "<sip:relay@192.0.2.7>")
    assert dialog.key == ("3848276298220188511@atlanta.example.com", "ours", "9fxced76sl")
    assert str(dialog.target) == "sip:alice@client.atlanta.example.com"
    bye = dialog.request("BYE")
    assert bye.uri == "sip:alice@client.atlanta.example.com"
    assert bye.headers.all("Route") == ["<sip:p2;lr>", "<sip:p1;lr>"]
    assert bye.from_.tag == "ours"
    assert bye.to.tag == "9fxced76sl"
    assert (bye.cseq.number, bye.cseq.method) == (1, "BYE")
    assert str(dialog.next_hop_uri()) == "sip:p2;lr"
    assert "Contact" not in bye.headers
    assert dialog.remote_cseq == 7


def test_the_uac_takes_record_route_reversed() -> None:
    invite = _invite("<sip:p2;lr>", "<sip:p1;lr>")
    dialog = Dialog.uac(invite, _answer(invite))
    assert dialog.confirmed
    assert dialog.key == (invite.call_id, "9fxced76sl", "bobtag")
    ack = dialog.ack(7)
    assert ack.method == "ACK"
    assert (ack.cseq.number, ack.cseq.method) == (7, "ACK")
    assert ack.headers.all("Route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
    assert dialog.request("BYE").cseq.number == 8
    again = dialog.request("INVITE", "<sip:new@192.0.2.8>")
    assert again.cseq.number == 9
    assert str(again.contact) == "<sip:new@192.0.2.8>"
    assert str(dialog.request("UPDATE").contact) == "<sip:alice@client.atlanta.example.com>"


def test_a_strict_router_becomes_the_request_uri() -> None:
    """RFC 3261 section 12.2.1.1."""
    invite = _invite("<sip:p2;lr>", "<sip:strict;method=INVITE?x=y>")
    dialog = Dialog.uac(invite, _answer(invite))
    bye = dialog.request("BYE")
    assert bye.uri == "sip:strict"
    assert bye.headers.all("Route") == ["<sip:p2;lr>", "<sip:bob@192.0.2.4>"]
    assert dialog.next_hop_uri().host == "strict"


def test_a_2xx_confirms_and_takes_the_route_set_anew() -> None:
    invite = request(via=VIA)
    dialog = Dialog.uac(invite, _answer(invite, 180))
    assert not dialog.confirmed
    final = _answer(invite, 200, "<sip:bob@192.0.2.5>")
    final.headers.add("Record-Route", "<sip:late;lr>")
    dialog.confirm(final)
    assert dialog.confirmed
    assert str(dialog.target) == "sip:bob@192.0.2.5"
    assert str(dialog.next_hop_uri()) == "sip:late;lr"


def test_a_lower_cseq_is_out_of_order() -> None:
    dialog = Dialog.uas(_invite(), "ours")
    dialog.receive(request("INFO", cseq=9))
    dialog.receive(request("ACK", cseq=7))
    with pytest.raises(OutOfOrder) as caught:
        dialog.receive(request("BYE", cseq=8))
    assert caught.value.status_hint == 500
    assert dialog.remote_cseq == 9


def test_the_remote_target_moves() -> None:
    dialog = Dialog.uas(_invite(), "ours")
    update = request("UPDATE")
    update.headers.set("Contact", "<sip:moved@192.0.2.99>")
    dialog.refresh_target(update)
    assert dialog.request("BYE").uri == "sip:moved@192.0.2.99"
    update.headers.remove("Contact")
    dialog.refresh_target(update)
    assert dialog.request("BYE").uri == "sip:moved@192.0.2.99"


def test_peers_without_contact_or_tag() -> None:
    """RFC 3261 section 12.1.1: an RFC 2543 peer has no tag."""
    invite = request(via=VIA, from_="<sip:old@192.0.2.3>")
    invite.headers.remove("Contact")
    dialog = Dialog.uas(invite, "ours")
    assert dialog.remote_tag is None
    assert dialog.local_tag == "ours"
    assert str(dialog.target) == "sip:old@192.0.2.3"
    assert dialog.request("BYE").headers.get("To") == "<sip:old@192.0.2.3>"


def test_only_sip_is_a_next_hop() -> None:
    invite = request(via=VIA)
    invite.headers.set("Contact", "<tel:+3531>")
    with pytest.raises(MalformedMessage):
        Dialog.uas(invite, "ours").next_hop_uri()
