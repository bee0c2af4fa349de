"""Where voice clients are, in virtual time: bindings, their end, limits, GRUU and Outbound."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from relay.call.token_check import TokenCheck
from relay.call.tokens import Tokens
from relay.sip.fields import Headers
from relay.sip.message import Request, Response
from relay.sip.transaction import Hop
from tests.scenario.web import AOR, HOST, Page, Region
from tests.scenario.world import CLIENT_NUMBER, Device, World
from tests.unit.token_samples import SECRET, WALL, token


def contacts(response: Response) -> list[str]:
    return response.headers.fields("Contact")


def expires(response: Response, page: Page) -> int:
    """For how long this page is registered, by the response."""
    (own,) = [value for value in contacts(response) if f"sip:{page.name}@" in value]
    found = re.search(r";expires=(\d+)", own)
    assert found is not None
    return int(found[1])


def warning(response: Response) -> str:
    return response.headers.get("Warning") or ""


# --- one device


def test_a_response_says_all_that_is_registered_and_for_how_long() -> None:
    region = Region()
    first, second = region.page(token()), region.page(token())
    first.register(600)
    region.run(100)
    response = second.register(300)
    assert (expires(response, first), expires(response, second)) == (500, 300)
    assert sorted(region.of()) == sorted((first.name, second.name))


def test_without_a_contact_it_is_only_asked_for() -> None:
    region = Region()
    page = region.page(token())
    page.register()
    asked = page.register(contact="")
    assert asked.status == 200 and len(contacts(asked)) == 1


def test_a_client_finds_its_own_contact_in_the_response() -> None:
    """JsSIP compares +sip.instance as text, and reg-id; SIP.js the user part of the URI."""
    page = Region().page(token())
    (value,) = contacts(page.register())
    assert value.startswith(f"<sip:{page.name}@{page.name}.invalid;transport=ws>;+sip.ice;")
    assert f'+sip.instance="<{page.instance}>"' in value and ";reg-id=1" in value


@pytest.mark.parametrize(
    ("asked", "contact", "granted"),
    [
        (300, "", 300),
        (300, ";expires=200", 200),
        (None, "", 600),
        (None, ";expires=90", 90),
        (86400, "", 600),
        (86400, ";expires=nonsense", 600),
        (600, ";expires=99999999999999999999", 600),
    ],
)
def test_for_how_long(asked: int | None, contact: str, granted: int) -> None:
    page = Region(registration_s=600).page(token())
    response = page.register(asked, page.contact + contact)
    assert expires(response, page) == granted


@pytest.mark.parametrize("asked", [1, 30, 59])
def test_too_brief_an_interval_gets_423(asked: int) -> None:
    region = Region()
    response = region.page(token()).register(asked)
    assert response.status == 423 and response.headers.get("Min-Expires") == "60"
    assert not region.of()


def test_a_registration_ends_when_it_is_not_refreshed() -> None:
    region = Region()
    page = region.page(token())
    page.register(120)
    region.run(119)
    assert region.of() == [page.name]
    region.run(1)
    assert region.of() == []
    region.run(10)
    assert region.journal.last("client_unregistered")["why"] == "expired"
    assert region.calls.registrar.figures() == {} and not region.calls.registrar._at
    assert region.relay.next_timer() is None or region.relay.next_timer() > region.now + 5


def test_a_refresh_keeps_it_and_leaves_no_line() -> None:
    region = Region()
    page = region.page(token())
    for _ in range(20):
        assert page.register(120).status == 200
        region.run(100)
        assert region.of() == [page.name]
    assert region.journal.names() == ["client_registered"]


def test_a_device_unregisters() -> None:
    region = Region()
    first, second = region.page(token()), region.page(token())
    first.register()
    second.register()
    response = first.register(0)
    assert response.status == 200 and len(contacts(response)) == 1
    assert region.of() == [second.name]
    assert region.journal.last("client_unregistered")["why"] == "unregistered"
    assert first.register(0).status == 200  # nothing is left to end


def test_a_star_ends_them_all() -> None:
    region = Region()
    first, second = region.page(token()), region.page(token())
    first.register()
    second.register()
    response = first.register(0, "*")
    assert response.status == 200 and not contacts(response)
    assert region.of() == []


@pytest.mark.parametrize(("asked", "contact"), [(600, "*"), (None, "*"), (0, "*, <sip:a@b>")])
def test_a_star_stands_alone_with_expires_0(asked: int | None, contact: str) -> None:
    region = Region()
    page = region.page(token())
    page.register()
    assert page.register(asked, contact).status == 400
    assert region.of() == [page.name]


@pytest.mark.parametrize(
    ("contact", "text"),
    [
        ("<tel:+35315550100>", "sip: address"),
        ("<sip:a@b.invalid>;+sip.instance=x", "URN"),
        ('<sip:a@b.invalid>;+sip.instance="<http://x>"', "URN"),
        ('<sip:a@b.invalid>;reg-id=-1;+sip.instance="<urn:x:y>"', "reg-id"),
        ("<sip:" + "a" * 600 + "@b.invalid>", "512"),
        ('<sip:a@b.invalid>;reg-id=1;+sip.instance="<urn:x:y>", <sip:c@b.invalid>', "one Contact"),
        ("<sip:", ""),
        (", ".join(["<sip:a@b.invalid>"] * 101), "100 Contacts"),
    ],
)
def test_a_contact_that_cannot_be_kept_gets_400(contact: str, text: str) -> None:
    region = Region()
    response = region.page(token()).register(600, contact)
    assert response.status == 400 and text in warning(response)
    assert region.of() == []


def test_all_or_nothing() -> None:
    """RFC 3261 section 10.3, step 7: one bad Contact of two, and none is registered."""
    region = Region()
    page = region.page(token(), instance=False)
    two = f"{page.contact}, <sip:other@b.invalid>;expires=5"
    assert page.register(600, two).status == 423
    assert region.of() == []
    assert page.register(600, two.replace("=5", "=60")).status == 200
    assert sorted(region.of()) == sorted((page.name, "other"))


def test_an_older_register_changes_nothing() -> None:
    region = Region()
    page = region.page(token())
    page.register()
    page.cseq -= 1
    page.call_id, old = page.call_id, page.request("REGISTER", f"sip:{AOR}", [])
    late = old.replace(b"branch=z9hG4bK", b"branch=z9hG4bKlate")
    fields = b"Contact: " + page.contact.encode() + b";expires=0\r\nContent-Length"
    response = page.send(late.replace(b"Content-Length", fields))
    assert response.status == 500
    assert region.of() == [page.name]


def test_another_identity_in_to_is_refused_whatever_its_spelling() -> None:
    region = Region()
    page = region.page(token(sub="alice"), identity="Alice")
    assert page.register().status == 403
    page.identity = "%61lice"
    assert page.register().status == 200
    assert region.of("alice") == [page.name]


# --- several devices


def test_the_preferred_device_comes_first() -> None:
    region = Region()
    for q in ("0.3", "1.0", "0.7", "", "nonsense"):
        page = region.page(token(), name=f"q{q[:3].replace('.', '')}")
        page.register(600, page.contact + (f";q={q}" if q else ""))
    assert region.of()[-2:] == ["q07", "q03"]
    assert set(region.of()[:3]) == {"q10", "q", "qnon"}


def test_a_device_that_registers_twice_is_one_device() -> None:
    """RFC 5626: the same instance and reg-id, with another Contact."""
    region = Region()
    page = region.page(token())
    page.register()
    page.name = "other"
    response = page.register()
    assert response.status == 200 and len(contacts(response)) == 1
    assert region.of() == ["other"]


def test_of_a_devices_connections_one_is_called() -> None:
    """Two flows (reg-id 1 and 2) of one instance: it rings once, at the newest."""
    region = Region()
    first, second = region.page(token()), region.page(token())
    second.instance = first.instance
    first.register()
    second.register(600, second.contact.replace("reg-id=1", "reg-id=2"))
    assert region.of() == [second.name]
    first.register()
    assert region.of() == [first.name]
    first.close()
    assert region.of() == [second.name]


def test_an_identity_has_so_many_devices() -> None:
    region = Region(contacts=2)
    pages = [region.page(token()) for _ in range(3)]
    assert [page.register().status for page in pages] == [200, 200, 403]
    assert "2 devices at most" in warning(pages[2].responses[-1])
    assert pages[0].register().status == 200  # a refresh is no new device
    assert region.page(token(sub="bob"), identity="bob").register().status == 200
    pages[1].register(0)
    assert pages[2].register().status == 200


def test_an_account_has_so_many_clients() -> None:
    region = Region(clients=2)
    names = ("alice", "bob", "carol")
    pages = [region.page(token(sub=name), identity=name) for name in names]
    assert [page.register().status for page in pages] == [200, 200, 503]
    assert pages[2].responses[-1].headers.get("Retry-After") == "30"
    assert region.calls.registrar.figures() == {"app": 2}
    pages[0].close()
    assert pages[2].register().status == 200


def test_two_accounts_have_the_same_name_apart() -> None:
    region = Region()
    region.page(token()).register()
    assert region.page(token(iss="other")).register().status == 200
    assert len(region.of()) == 1
    assert region.calls.registrar.figures() == {"app": 1, "other": 1}


# --- tokens


def test_a_registration_ends_with_its_token() -> None:
    region = Region(registration_s=7200)
    page = region.page(token())
    region.run(600)
    assert expires(page.register(7200), page) == 3000
    region.run(2999)
    assert region.of() == [page.name]
    region.run(1)
    assert region.of() == []


def test_a_client_with_a_newer_token_is_asked_for_it_in_time() -> None:
    """A library of digest shows its token only when it is asked: it is, once the connection's
    token does not last for the registration any more."""
    region = Region(registration_s=600)
    page = region.page(token(), digest=True)
    page.register()
    asked = region.counters["token_missing"]
    for _ in range(9):
        region.run(300)
        assert page.register().status == 200
    assert region.counters["token_missing"] == asked  # 900 s are left
    region.run(400)
    page.token = token(jti="t2", exp=region.wall + 3600)
    assert expires(page.register(), page) == 600
    assert region.counters["token_missing"] == asked + 1
    region.run(550)  # the first one is over
    assert page.register().status == 200 and region.of() == [page.name]
    assert page.ask("OPTIONS", f"sip:{AOR}", []).status == 200


def test_a_client_without_a_newer_token_stays_for_what_is_left() -> None:
    region = Region(registration_s=600)
    page = region.page(token(), digest=True)
    page.register()
    region.run(3500)
    assert expires(page.register(), page) == 100
    region.run(99)
    assert expires(page.register(), page) == 1
    region.run(1)
    assert page.register().status == 401 and region.of() == []


def test_a_newer_token_changes_what_is_allowed() -> None:
    region = Region()
    page = region.page(token())
    page.register()
    (before,) = region.calls.registrar.bindings("app", "alice", region.now)
    page.token = token(jti="t2", in_=False)
    page.register()
    (after,) = region.calls.registrar.bindings("app", "alice", region.now)
    assert before.may_be_called and not after.may_be_called


def test_a_bad_token_at_a_refresh_leaves_what_was_proved() -> None:
    region = Region()
    page = region.page(token())
    page.register()
    page.token = token(region="au1")
    assert page.register().status == 401
    assert region.of() == [page.name]


def test_a_page_unregisters_without_being_asked_who_it_is() -> None:
    """It is about to close: nobody would answer a challenge."""
    region = Region()
    page = region.page(token(), digest=True)
    page.register()
    region.run(3590)
    page.digest, page.token = False, ""
    assert page.register(0).status == 200


def test_what_is_revoked_is_not_registered_any_more() -> None:
    region = Region()
    first, second = region.page(token()), region.page(token(jti="t2"))
    first.register()
    second.register()
    region.calls.revoke("app", ["t1"], region.now)
    assert region.of() == [second.name]
    assert region.journal.last("client_unregistered")["why"] == "token revoked"
    refused = first.register()
    assert refused.status == 401 and "revoked" in warning(refused)
    first.token = ""
    assert first.ask("OPTIONS", f"sip:{AOR}", []).status == 407
    first.token = token(jti="t3")
    assert first.register().status == 200


def test_a_revoked_client_ends_what_it_has_begun() -> None:
    """Its requests inside a dialog still count: its calls end in order."""
    region = Region()
    page = region.page(token())
    page.register()
    region.calls.revoke("app", ["t1"], region.now)
    data = page.request("BYE", f"sip:{AOR}", [])
    data = data.replace(b"To: <sip:alice@ie1.example>", b"To: <sip:a@b>;tag=x")
    assert page.send(data).status == 481  # not 407


# --- the wall clock


def test_a_clock_put_back_prolongs_no_registration() -> None:
    region = Region(registration_s=7200)
    page = region.page(token())
    page.register(7200)
    region.wall -= 10_000
    assert expires(page.register(7200), page) == 3600
    region.run(3601)
    assert region.of() == []
    assert page.register().status == 401


def test_a_clock_put_forward_ends_no_registration() -> None:
    region = Region()
    page = region.page(token())
    page.register()
    region.wall += 10_000
    region.run(500)
    assert region.of() == [page.name]
    assert page.register().status == 200


# --- connections


def test_a_lost_connection_ends_the_registrations_on_it() -> None:
    region = Region()
    first, second = region.page(token()), region.page(token())
    first.register()
    second.register()
    first.close()
    assert region.of() == [second.name]
    assert region.journal.last("client_unregistered")["why"] == "connection lost"
    assert region.calls.clients.of(first.hop) is None


def test_for_whom_a_lost_connection_is_kept() -> None:
    region = Region(reconnect_s=12.0)
    page, stranger = region.page(token()), region.page()
    assert region.calls.keeps(page.hop) == 0.0
    page.ask("OPTIONS", f"sip:{AOR}", [])
    assert region.calls.keeps(page.hop) == 0.0  # a client with nothing to lose
    page.register()
    assert region.calls.keeps(page.hop) == 12.0
    stranger.register()
    assert region.calls.keeps(stranger.hop) == 0.0
    page.register(0)
    assert region.calls.keeps(page.hop) == 0.0


def test_a_device_that_comes_back_is_reached_on_its_new_connection() -> None:
    region = Region()
    page = region.page(token())
    page.register()
    old = page.hop
    page.connect()
    assert page.register().status == 200
    assert region.moves == [(old.link, page.hop.link)]
    (binding,) = region.calls.registrar.bindings("app", "alice", region.now)
    assert binding.hop == page.hop
    assert region.journal.last("client_moved") == {
        "account": "app",
        "identity": "alice",
        "source": HOST,
    }
    region.relay.transport_failed(old, region.now)  # the old one is given up
    assert region.of() == [page.name]
    assert region.calls.clients.of(old) is None


def test_a_page_without_an_instance_comes_back_by_its_contact() -> None:
    """SIP.js sends no +sip.instance unless it is told to."""
    region = Region()
    page = region.page(token(), instance=False)
    page.register()
    old = page.hop
    page.connect()
    page.register()
    assert region.moves == [(old.link, page.hop.link)]
    assert region.of() == [page.name]


def test_a_device_must_prove_itself_on_its_new_connection() -> None:
    """The instance is no secret: it stands in every Contact."""
    region = Region()
    page = region.page(token())
    page.register()
    thief = region.page()
    thief.instance, thief.name = page.instance, page.name
    assert thief.register().status == 401
    thief.token, thief.identity = token(sub="bob", jti="t2"), "bob"
    assert thief.register().status == 200
    assert not region.moves and region.of() == [page.name]
    assert region.of("bob") == [page.name]


def test_the_connection_that_was_left_must_prove_itself_anew() -> None:
    region = Region()
    page = region.page(token())
    page.register()
    old = page.hop
    page.connect()
    page.register()
    page.hop, page.token = old, ""
    assert page.ask("OPTIONS", f"sip:{AOR}", []).status == 407


# --- GRUU and Outbound


def test_a_device_gets_an_address_of_its_own() -> None:
    """RFC 5627: its instance, at the address that it registered."""
    page = Region().page(token())
    (value,) = contacts(page.register())
    assert f';pub-gruu="sip:alice@{AOR};gr={page.instance}"' in value


def test_who_does_not_ask_gets_none() -> None:
    page = Region().page(token())
    response = page.ask("REGISTER", f"sip:{AOR}", [("Contact", page.contact)])
    assert "gruu" not in contacts(response)[0]
    assert "Require" not in response.headers and "Flow-Timer" not in response.headers
    page = Region().page(token(), instance=False)
    assert "gruu" not in contacts(page.register())[0]


def test_an_address_of_its_own_leads_to_that_device_only() -> None:
    region = Region()
    first, second = region.page(token()), region.page(token())
    first.register()
    second.register()
    assert region.of(instance=first.instance) == [first.name]
    assert region.of(instance=second.instance) == [second.name]
    assert region.of(instance="urn:uuid:nobody") == []
    assert len(region.of()) == 2


def test_outbound_is_confirmed() -> None:
    """RFC 5626 section 6."""
    response = Region().page(token()).register()
    assert response.headers.get("Require") == "outbound"
    assert response.headers.get("Flow-Timer") == "60"
    page = Region().page(token(), instance=False)
    assert "Require" not in page.register().headers


@pytest.mark.parametrize(("option", "status"), [("gruu", 200), ("outbound", 200), ("path", 420)])
def test_what_may_be_required(option: str, status: int) -> None:
    assert Region().page(token()).register(Require=option).status == status


# --- many


def test_what_is_kept_of_many_is_bounded_and_goes() -> None:
    region = Region(clients=1000, contacts=10)
    pages = [
        region.page(token(sub=f"u{number}", jti=f"t{number}"), identity=f"u{number}")
        for number in range(300)
    ]
    for page in pages:
        assert page.register(120).status == 200
    assert region.calls.registrar.figures() == {"app": 300}
    region.run(60)
    for page in pages[:100]:
        page.register(120)
    for page in pages[100:150]:
        page.close()
    region.run(70)
    assert region.calls.registrar.figures() == {"app": 100}
    assert len(region.calls.registrar._at) == 100
    region.run(120)
    assert not region.calls.registrar._devices and not region.calls.registrar._at
    assert len(region.calls.clients) == 250


def test_a_secret_or_a_token_is_never_told() -> None:
    region = Region()
    page = region.page(token(), digest=True)
    page.register()
    page.token = token(jti="t2")[:-4]
    page.register()
    told = repr(region.journal.events) + repr(page.responses)
    for response in page.responses:
        told += response.encode().decode()
    assert SECRET not in told and token() not in told and page.token not in told
    (binding,) = region.calls.registrar.bindings("app", "alice", region.now)
    assert SECRET not in repr(replace(binding))


# --- and calls


def check(world: World) -> TokenCheck:
    account, keys = world.router.account, {("app", "k1"): SECRET.encode()}
    tokens = Tokens("ie1", [account], keys, lambda: datetime.fromtimestamp(WALL, UTC))
    return TokenCheck(tokens, "ie1", b"secret")


def talking(world: World) -> Device:
    """Alice, called by a trunk, and no connection of hers is believed any more."""
    world.calls.token_check = check(world)
    alice = world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    world.run_until(lambda: bool(alice.acks) and bool(world.pbx.dialog))
    return alice


def back(world: World, alice: Device) -> None:
    """On another connection, on which nothing has been proved yet."""
    alice.connection = world.connect(alice)
    world.calls.clients.lost(alice.connection)


def register(device: Device) -> None:
    """As a page does it, through the whole relay."""
    fields = [
        ("Max-Forwards", "70"),
        ("From", f"<sip:alice@{AOR}>;tag=1"),
        ("To", f"<sip:alice@{AOR}>"),
        ("Call-ID", f"by-hand-{device.number}"),
        ("CSeq", "1 REGISTER"),
        ("Contact", f'{device.contact};+sip.instance="<{device.instance}>"'),
        ("Authorization", f"Bearer {token()}"),
    ]
    device.send(Request("REGISTER", f"sip:{AOR}", Headers(fields)))
    device.world.run_until(lambda: 200 in device.statuses("REGISTER"))


def test_a_device_that_registers_while_it_is_called_rings_too() -> None:
    world = World()
    first = world.device("alice")
    first.on_request = first.ring
    world.pbx.call(CLIENT_NUMBER)
    world.run_until(lambda: bool(first.got("INVITE")))
    second = Device(world, "alice")
    world.calls.token_check = check(world)
    register(second)
    world.run_until(lambda: bool(second.acks) and bool(world.pbx.dialog))
    world.run(1.0)
    assert first.cancelled and not world.bugs


def test_nobody_answers_for_a_client_over_another_connection() -> None:
    """Even with all that was in the INVITE."""
    world = World()
    alice = world.device("alice")
    alice.on_request = alice.ring
    world.pbx.call(CLIENT_NUMBER)
    world.run_until(lambda: bool(alice.got("INVITE")))
    (invite,) = alice.got("INVITE")
    forged = invite.response(200, to_tag="thief")
    forged.headers.add("Contact", alice.contact)
    thief = Hop("wss", "192.0.2.50", 50000, 99)
    world.relay.receive(forged, thief, world.now)
    world.run(1.0)
    assert world.pbx.statuses() == [180]
    assert world.relay.counters["stray_responses"] == 1


def test_a_call_goes_on_where_its_device_registers() -> None:
    world = World()
    alice = talking(world)
    lost = alice.connection
    alice.lose()
    world.run(20.0)
    world.pbx.in_dialog("INFO", b"Signal=5\r\n")  # waits
    back(world, alice)
    register(alice)
    world.run_until(lambda: 200 in world.pbx.statuses("INFO"))
    assert world.calls.clients.of(lost) is None
    world.run(40.0)
    assert not world.pbx.got("BYE")
    alice.bye()
    world.run_until(lambda: 200 in alice.statuses("BYE") and bool(world.pbx.got("BYE")))
    assert not world.bugs


def test_who_is_back_may_speak_in_its_call_once_it_shows_its_token() -> None:
    """A page may send its re-INVITE or BYE before its REGISTER."""
    world = World()
    alice = talking(world)
    alice.lose()
    back(world, alice)
    alice.bye()
    world.run_until(lambda: 407 in alice.statuses("BYE"))
    assert not world.pbx.got("BYE")
    assert alice.dialog is not None
    bye = alice.dialog.request("BYE")
    bye.headers.add("Authorization", f"Bearer {token(sub='bob', jti='t2')}")
    alice.send(bye)
    world.run_until(lambda: 403 in alice.statuses("BYE"))  # it is another's call
    back(world, alice)
    bye = alice.dialog.request("BYE")
    bye.headers.add("Authorization", f"Bearer {token()}")
    alice.send(bye)
    world.run_until(lambda: 200 in alice.statuses("BYE") and bool(world.pbx.got("BYE")))
    assert not world.bugs
