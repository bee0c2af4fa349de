"""Who may hold how many connections: one address must not keep out the others."""

from __future__ import annotations

import pytest

from relay.signalling.places import (
    MAX_CONNECTIONS,
    MAX_OF_ONE,
    MAX_OF_ONE_STRANGER,
    MAX_STRANGERS,
    Places,
)


def taken(places: Places, host: str, count: int, stranger: bool = False, first: int = 0) -> int:
    return sum(places.take(first + link, host, stranger) for link in range(count))


def test_one_trunk_s_address_leaves_places_for_the_others() -> None:
    places = Places()
    assert taken(places, "192.0.2.2", MAX_CONNECTIONS) == MAX_OF_ONE
    assert places.take(MAX_CONNECTIONS, "192.0.2.3", False)
    assert places.take(MAX_CONNECTIONS + 1, "192.0.2.9", True)


def test_there_are_so_many_in_all() -> None:
    places = Places()
    for number in range(MAX_CONNECTIONS // MAX_OF_ONE + 1):
        taken(places, f"192.0.2.{number}", MAX_OF_ONE, first=number * MAX_OF_ONE)
    assert len(places) == MAX_CONNECTIONS


@pytest.mark.parametrize("host", ["192.0.2.9", "2001:db8::{}"])
def test_one_stranger_cannot_keep_out_the_others(host: str) -> None:
    places = Places()
    mine = [places.take(link, host.format(f"{link:x}"), True) for link in range(MAX_STRANGERS)]
    assert sum(mine) == places.strangers == MAX_OF_ONE_STRANGER
    assert places.take(MAX_STRANGERS, "192.0.2.8", True)


def test_strangers_have_so_many_places_in_all_until_they_prove_who_they_are() -> None:
    places = Places()
    hosts = MAX_STRANGERS // MAX_OF_ONE_STRANGER
    for number in range(hosts):
        taken(places, f"192.0.2.{number}", MAX_OF_ONE_STRANGER, True, number * MAX_OF_ONE_STRANGER)
    assert not places.take(MAX_STRANGERS, "192.0.2.99", True)
    places.prove(0)
    assert places.take(MAX_STRANGERS, "192.0.2.99", True)


def test_a_place_is_given_back_once() -> None:
    places = Places()
    assert places.take(1, "192.0.2.2", True)
    assert places.take(1, "192.0.2.2", False)  # its certificate names a trunk
    assert (len(places), places.strangers) == (1, 0)
    for _ in range(2):
        places.leave(1)
    assert (len(places), places.strangers, len(places._counts)) == (0, 0, 0)
    assert taken(places, "192.0.2.2", MAX_OF_ONE + 1) == MAX_OF_ONE
