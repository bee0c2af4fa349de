"""Identities on their way between trunks (RFC 3323, 3325, 5806, 7044)."""

from __future__ import annotations

from typing import Any

import pytest

from relay.call.identity import MOST_VALUES, Identity
from relay.call.numbers import NumberingPlan
from relay.config import Trunk
from relay.sip.fields import Headers
from relay.sip.message import Request
from relay.sip.uri import SipUri

OURS = SipUri.parse("sip:192.0.2.1:5060;transport=tcp")
NUMBER = "+35315550100"
FROM = f'"Ann" <sip:{NUMBER}@192.0.2.2;user=phone>;tag=a1'
ANONYMOUS = '"Anonymous" <sip:anonymous@anonymous.invalid>'
PAI = ("P-Asserted-Identity", f"<sip:{NUMBER}@192.0.2.2>")
OUR_PAI = ("P-Asserted-Identity", f"<sip:{NUMBER}@192.0.2.1:5060>")
RPID = f"<sip:{NUMBER}@192.0.2.2>;party=calling;screen=yes"
OUR_RPID = f"<sip:{NUMBER}@192.0.2.1:5060>;party=calling;screen=yes"


def identity(
    *fields: tuple[str, str],
    from_: str = FROM,
    believed: bool = True,
    trusted: bool = True,
    **keys: Any,
) -> Identity:
    """From a trunk that is `believed` to one that is `trusted`."""
    source = Trunk(name="a", trusted=believed, **keys)
    request = Request("INVITE", "sip:x@192.0.2.1", Headers([("From", from_), *fields]))
    target = Trunk(name="b", trusted=trusted)
    return Identity(request, source.trusted, target, OURS, NumberingPlan(source))


def test_the_caller_keeps_name_and_number_and_loses_the_address() -> None:
    found = identity()
    assert str(found.from_) == f'"Ann" <sip:{NUMBER}@192.0.2.1:5060>'
    assert found.fields == []


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sip:015550100@192.0.2.2", NUMBER),
        ("sip:4100@192.0.2.2", "+35315554100"),
        ("tel:+353-1-555-0100", NUMBER),
        ("sip:%2B35315550100@192.0.2.2", NUMBER),
        ("sip:+35315550100;phone-context=192.0.2.2@192.0.2.2", NUMBER),
        ("sip:alice:secret@192.0.2.2", "alice"),
    ],
)
def test_the_callers_number_is_written_as_the_trunks_plan_says(uri: str, shown: str) -> None:
    rules = [{"match": r"(\d{4})", "replace": r"+3531555\1"}]
    found = identity(from_=f"<{uri}>;tag=1", country="IE", number_rules=rules)
    assert str(found.from_) == f"<sip:{shown}@192.0.2.1:5060>"


@pytest.mark.parametrize(
    "uri",
    [
        "sip:192.0.2.2",
        "sip:192.0.2.2@192.0.2.2",
        "sip:alice%40acme.example@192.0.2.2",
        "sip:a%0d%0ab@192.0.2.2",
        "sip:" + "a" * 65 + "@192.0.2.2",
        "sip:Anonymous@192.0.2.2",
        "urn:service:sos",
    ],
)
def test_a_caller_without_a_number_is_anonymous(uri: str) -> None:
    assert str(identity(from_=f'"192.0.2.2" <{uri}>').from_) == ANONYMOUS


def test_a_name_that_is_an_address_is_left_out() -> None:
    found = identity(from_=f'"ann@192.0.2.2" <sip:{NUMBER}@192.0.2.2>')
    assert str(found.from_) == f"<sip:{NUMBER}@192.0.2.1:5060>"


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("field", [PAI, ("Remote-Party-ID", RPID)])
def test_an_identity_without_privacy_crosses_when_its_trunk_is_believed(
    field: tuple[str, str], trusted: bool
) -> None:
    ours = OUR_PAI if field is PAI else ("Remote-Party-ID", OUR_RPID)
    assert identity(field, trusted=trusted).fields == [ours]
    assert identity(field, trusted=trusted, believed=False).fields == []


@pytest.mark.parametrize("value", ["id", "user", "header", "id;critical", "ID ; user"])
def test_a_private_identity_stays_in_the_trust_domain(value: str) -> None:
    """RFC 3325 section 7; From is as private as the identity."""
    fields = (PAI, ("Remote-Party-ID", RPID), ("Privacy", value), ("Subject", "lunch"))
    inside = identity(*fields)
    assert str(inside.from_) == f'"Ann" <sip:{NUMBER}@192.0.2.1:5060>'
    assert inside.fields[:2] == [OUR_PAI, ("Remote-Party-ID", OUR_RPID)]
    assert ("Privacy", value.lower().replace(" ", "")) in inside.fields
    outside = identity(*fields, trusted=False)
    assert str(outside.from_) == ANONYMOUS
    assert NUMBER not in str(outside.fields)
    assert (("Subject", "lunch") in outside.fields) == ("user" not in value.lower())


def test_privacy_none_keeps_the_identity() -> None:
    """RFC 3325 section 7: it must not be removed then."""
    anonymous = "<sip:anonymous@anonymous.invalid>;tag=1"
    found = identity(PAI, ("Privacy", "none"), from_=anonymous, trusted=False)
    assert found.fields == [OUR_PAI, ("Privacy", "none")]


def test_an_anonymous_from_alone_is_a_wish_for_privacy() -> None:
    anonymous = "<sip:anonymous@anonymous.invalid>;tag=1"
    assert identity(PAI, from_=anonymous, trusted=False).fields == []
    inside = identity(PAI, from_=anonymous)
    assert (str(inside.from_), inside.fields) == (ANONYMOUS, [OUR_PAI])


@pytest.mark.parametrize("believed", [True, False])
def test_the_asserted_identity_names_the_caller_where_from_does_not(believed: bool) -> None:
    """An untrusted trunk's is a wish, as P-Preferred-Identity is (RFC 3325 section 6)."""
    nobody = "<sip:192.0.2.2>;tag=1"
    for field in (PAI, ("Remote-Party-ID", RPID)):
        found = identity(field, from_=nobody, believed=believed)
        assert str(found.from_) == f"<sip:{NUMBER}@192.0.2.1:5060>"
    for fields in (
        (PAI, ("Privacy", "id")),
        (("Remote-Party-ID", RPID + ";privacy=full"),),
    ):
        assert str(identity(*fields, from_=nobody, believed=believed).from_) == ANONYMOUS


@pytest.mark.parametrize("value", ["full", '"uri"', "name"])
def test_the_privacy_of_one_value_is_its_own(value: str) -> None:
    """draft-ietf-sip-privacy-04 section 5 and RFC 5806 section 4."""
    fields = [
        ("Remote-Party-ID", f"{RPID};privacy={value}"),
        ("Diversion", f"<sip:+35315550111@192.0.2.2>;privacy={value};reason=user-busy"),
    ]
    assert identity(*fields, trusted=False).fields == []
    assert len(identity(*fields).fields) == 2
    off = [(name, text.replace(value, "off")) for name, text in fields]
    assert len(identity(*off, trusted=False).fields) == 2


def test_diversions_pass_in_order_from_any_trunk() -> None:
    found = identity(
        (
            "Diversion",
            '"Desk" <sip:4100@192.0.2.2>;reason=user-busy;counter=1;screen=no;x=192.0.2.2',
        ),
        ("Diversion", "<tel:+353-1-555-0112>;reason=unconditional, <tel:4113>;reason=away"),
        believed=False,
        trusted=False,
    )
    assert [value for _, value in found.fields] == [
        '"Desk" <sip:4100@192.0.2.1:5060>;reason=user-busy;counter=1;screen=no',
        "<tel:+35315550112>;reason=unconditional",
        "<sip:4113@192.0.2.1:5060>;reason=away",
    ]


HISTORY = (
    "<sip:+35315550110@192.0.2.2>;index=1",
    "<sip:+35315550111@192.0.2.2;cause=302;x=1?Reason=SIP%3Bcause%3D302&Privacy=history>;index=1.1;rc=1",
    "<sip:192.0.2.2>;index=1.1.1;mp=1.1",
)


def test_history_keeps_its_places() -> None:
    """RFC 7044: the address of each target is ours, a private one is anonymous."""
    field = ("History-Info", ", ".join(HISTORY))
    inside = [value for _, value in identity(field).fields]
    assert inside == [
        "<sip:+35315550110@192.0.2.1:5060>;index=1",
        "<sip:+35315550111@192.0.2.1:5060;cause=302?Reason=SIP%3Bcause%3D302&Privacy=history>"
        ";index=1.1;rc=1",
        "<sip:anonymous@anonymous.invalid>;index=1.1.1;mp=1.1",
    ]
    outside = [value for _, value in identity(field, trusted=False).fields]
    assert outside[0] == inside[0]
    assert outside[1] == "<sip:anonymous@anonymous.invalid>;index=1.1;rc=1"
    all_private = identity(field, ("Privacy", "history"), trusted=False).fields
    assert "5550110" not in str(all_private)
    assert len(all_private) == 4


@pytest.mark.parametrize("name", ["P-Asserted-Identity", "Remote-Party-ID", "Diversion"])
@pytest.mark.parametrize(
    "value",
    ["nonsense", "<sip:@>", '"open <sip:1@x>', "<mailto:ann@acme.example>", "<sip:192.0.2.2>"],
)
def test_what_cannot_be_read_is_dropped_and_counted(name: str, value: str) -> None:
    found = identity((name, value), (name, f"<sip:{NUMBER}@192.0.2.2>"))
    assert found.dropped == 1
    assert found.fields == [(name, f"<sip:{NUMBER}@192.0.2.1:5060>")]


def test_no_field_makes_a_message_without_end() -> None:
    found = identity(*[("Diversion", f"<sip:{n}@192.0.2.2>") for n in range(100)])
    assert (len(found.fields), found.dropped) == (MOST_VALUES, 100 - MOST_VALUES)
