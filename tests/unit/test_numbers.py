"""A trunk's way of writing numbers, and E.164."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from relay.call.numbers import LONGEST, NumberingPlan, check_e164
from relay.call.router import Router
from relay.config import Trunk, read
from relay.errors import Refused

RULES = (
    {"match": r"9(\d{4})", "replace": r"+3531555\1"},  # an extension with its trunk prefix
    {"match": r"9(\d+)", "replace": r"+44\1"},
    {"match": r"(\d{4})", "replace": r"+3531555\1"},
)


def plan(**keys: Any) -> NumberingPlan:
    return NumberingPlan(Trunk(name="acme", **keys))


@pytest.mark.parametrize(
    "number",
    [
        "+35315550199",
        "+35315550100",
        "+14155550100",
        "+442079460000",
        "+4930123456",
        "+390612345678",
        "+61280000000",
        "+80012345678",
        "+883510000000000",
    ],
)
def test_what_may_be_a_number_passes(number: str) -> None:
    """Possible by its length; whether it is assigned today is for the carrier to say."""
    check_e164(number)
    assert plan().called(number) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("+", "15 digits"),
        ("+0353", "15 digits"),
        ("+3531555abc", "15 digits"),
        ("+1234567890123456", "15 digits"),
        ("+353\u0661\u0662", "15 digits"),
        ("+99912345678", "no such country code"),
        ("+21012345678", "no such country code"),
        ("+21", "no such country code"),
        ("+353", r"too short for country code \+353"),
        ("+35312", r"too short for country code \+353"),
        ("+15550100", r"too short for country code \+1"),
        ("+141555501000", r"wrong length for country code \+1"),
    ],
)
def test_what_cannot_be_a_number_is_refused_with_its_reason(number: str, text: str) -> None:
    with pytest.raises(Refused, match=text) as refused:
        plan().called(number)
    assert refused.value.status == 400
    assert len(number) < 5 or number not in refused.value.text


@pytest.mark.parametrize(
    ("country", "dialled", "number"),
    [
        ("IE", "015550199", "+35315550199"),
        ("IE", "01-555.0199", "+35315550199"),
        ("IE", "0035315550199", "+35315550199"),
        ("IE", "+35315550199", "+35315550199"),
        ("IE", "+353(1)5550199;npdi", "+35315550199"),
        ("US", "4155550100", "+14155550100"),
        ("US", "01135315550199", "+35315550199"),
        ("IT", "0612345678", "+390612345678"),  # the zero belongs to it
        ("IE", "112", "112"),
        ("IE", "999", "999"),
        ("AU", "000", "000"),
        ("IE", "50100", "50100"),
        ("IE", "5550199", "5550199"),  # without its area code
        ("IE", "5" * 40, "5" * 40),
        ("IE", "service", "service"),
        ("IE", "*69", "*69"),
        ("IE", "\u0661\u0662\u0663\u0664\u0665\u0666\u0667", None),
        (None, "015550199", "015550199"),
    ],
)
def test_national_numbers_are_written_in_full(
    country: str | None, dialled: str, number: str | None
) -> None:
    assert plan(country=country).called(dialled) == (number or dialled)


@pytest.mark.parametrize(
    ("dialled", "number"),
    [
        ("94100", "+35315554100"),
        ("91234567890", "+441234567890"),
        ("4100", "+35315554100"),
        ("1-4100", "14100"),  # nothing matches a part
        ("+35315550199", "+35315550199"),
    ],
)
def test_the_first_rule_that_matches_the_whole_number_replaces_it(
    dialled: str, number: str
) -> None:
    assert plan(number_rules=RULES).called(dialled) == number


def test_the_country_comes_after_the_rules() -> None:
    trunk = plan(country="IE", number_rules=[{"match": "8(.*)", "replace": r"\1"}])
    assert trunk.called("8015550199") == "+35315550199"


def test_a_rule_that_makes_no_number_is_refused() -> None:
    with pytest.raises(Refused, match="no such country code"):
        plan(number_rules=[{"match": "9(.*)", "replace": r"+999\1"}]).called("95550199")


def test_a_calling_number_is_normalised_or_left_alone() -> None:
    trunk = plan(country="IE", number_rules=RULES)
    assert trunk.calling("015550199") == "+35315550199"
    assert trunk.calling("4100") == "+35315554100"
    assert trunk.calling("alice") == "alice"
    assert trunk.calling("+1") == "+1"


def test_a_pattern_that_backtracks_sees_no_long_text() -> None:
    """The operator wrote it, but the number is the peer's."""
    trunk = plan(number_rules=[{"match": "(?:[0-9]+)*x", "replace": ""}])
    start = time.process_time()
    assert trunk.called("1" * (LONGEST + 1)) == "1" * (LONGEST + 1)
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"country": "XX"}, "two-letter code"),
        ({"country": "Ireland"}, "pattern"),
        ({"number_rules": [{"match": "(", "replace": ""}]}, "regular expression"),
        ({"number_rules": [{"match": "9", "replace": r"\1"}]}, "does not fit match"),
        ({"number_rules": [{"match": "9", "replace": r"\g<x>"}]}, "does not fit match"),
    ],
)
def test_a_plan_that_cannot_work_is_a_mistake_of_the_configuration(
    keys: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValidationError, match=text):
        Trunk(name="acme", **keys)


CONFIG = """
[region]
id = "t1"
jurisdiction = "EU"
networks = ["10.0.0.0/8"]
[sip]
listen = ["udp:10.0.0.9:5060"]
[media]
address = "10.0.0.9"
[[trunk]]
name = "acme"
country = "IE"
origination = [{ uri = "sip:10.0.0.1" }]
[[route]]
from = "acme"
number = "+*"
to = "acme"
[[route]]
from = "acme"
number = "5550100"
to = "acme"
[[route]]
from = "acme"
number = "112"
to = "acme"
"""


@pytest.mark.parametrize(
    ("dialled", "number"),
    [
        ("015550199", "+35315550199"),
        ("112", "112"),
        ("5550100", "5550100"),  # named by a route: not made a number of seven digits
    ],
)
def test_a_number_that_a_route_names_is_called_as_it_is(dialled: str, number: str) -> None:
    router = Router(read(CONFIG, "relay.toml"))
    _, (target,) = router.route(router.peer("acme"), dialled)
    assert target.uri.user == number


def test_an_emergency_number_without_a_route_goes_nowhere() -> None:
    router = Router(read(CONFIG, "relay.toml"))
    with pytest.raises(Refused, match="leading"):
        router.route(router.peer("acme"), "999")
