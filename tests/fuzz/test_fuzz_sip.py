"""Whatever arrives, the SIP core answers with MalformedMessage or with a message.

Bounded by RELAY_FUZZ_SECONDS (default 5 s for the whole file).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import MalformedMessage
from relay.sip.dialog import Dialog
from relay.sip.headers import CSeq, NameAddr, Via, split_list
from relay.sip.message import Message, Request, Response
from relay.sip.parser import StreamParser, parse, validate
from relay.sip.transaction import (
    Hop,
    RequestReceived,
    ResponseReceived,
    Send,
    State,
    TransactionLayer,
)
from relay.sip.uri import SipUri, parse_uri
from tests.unit.sip_samples import TORTURE, request

SECONDS = float(os.environ.get("RELAY_FUZZ_SECONDS", "5"))
CORPUS = [path.read_bytes() for path in sorted(TORTURE.glob("*.dat"))]
SOURCE = Hop("udp", "192.0.2.200", 5060, 1)

# What a parser trips over, put in the middle of sound messages.
PIECES = [
    b"\r\n", b"\n", b"\r", b"\x00", b"\xff", b"\xc3", b" ", b"\t", b"\r\n ", b"\r\n\r\n", b",",
    b";", b":", b"<", b">", b'"', b"\\", b"@", b"[", b"]", b"?", b"=", b"%", b"/", b"SIP/2.0",
    b"z9hG4bK", b";tag=", b";branch=", b";rport", b"Content-Length: 7\r\n", b"l: 0\r\n",
    b"Via: ,\r\n", b"Contact: *\r\n", b"Record-Route: <\r\n", b"ACK", b"CANCEL", b"INVITE",
    b"-1", b"0", b"9" * 50, "٣".encode(), "\u2028".encode(), b"\x85", b"\x1c", b"sip:", b"tel:",
]  # fmt: skip

SETTINGS = settings(max_examples=int(60 * SECONDS), deadline=None)


def _mutate(data: bytes, chance: random.Random) -> bytes:
    mutated = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(mutated) + 1)
        match chance.randrange(5):
            case 0:
                mutated[at:at] = chance.choice(PIECES)
            case 1:
                del mutated[at : at + chance.randrange(1, 30)]
            case 2 if at < len(mutated):
                mutated[at] = chance.randrange(256)
            case 3:
                start = chance.randrange(len(mutated) + 1)
                mutated[at:at] = mutated[start : start + chance.randrange(1, 120)]
            case _:
                other = chance.choice(CORPUS)
                mutated[at:] = other[chance.randrange(len(other)) :]
    return bytes(mutated)


def _mutants(seed: int, seconds: float) -> Iterator[bytes]:
    """Mutations of the corpus for a while; the seed is in the failure's traceback."""
    deadline = time.monotonic() + seconds
    chance = random.Random(seed)
    while time.monotonic() < deadline:
        for _ in range(50):
            yield _mutate(chance.choice(CORPUS), chance)


def _read_everything(message: Message) -> None:
    """Each typed getter either works, and is written as it is read, or is malformed."""
    for read in (
        lambda: parse_again(message.via, Via.parse),
        lambda: parse_again(message.from_, NameAddr.parse),
        lambda: parse_again(message.to, NameAddr.parse),
        lambda: parse_again(message.cseq, CSeq.parse),
        lambda: message.call_id,
        lambda: message.contact,
        lambda: message.routes,
        lambda: message.record_routes,
        lambda: message.content_type,
        lambda: message.max_forwards if isinstance(message, Request) else None,
        lambda: Dialog.uas(message, "x") if isinstance(message, Request) else None,
    ):
        try:
            read()
        except MalformedMessage:
            continue


def parse_again(value: object, parse_value: object) -> None:
    assert callable(parse_value)
    assert parse_value(str(value)) == value


def _check(data: bytes, layer: TransactionLayer, now: float) -> None:
    try:
        message = parse(data)
    except MalformedMessage as error:
        if isinstance(error.message, Request):
            layer.reject(error.message, 400, SOURCE, now)
        return
    assert parse(message.encode()) == message
    _read_everything(message)
    if isinstance(message, Request):
        assert validate(message) in (None, 400, 416, 420, 483, 505)
    layer.receive(message, SOURCE, now)


def _check_outputs(layer: TransactionLayer, now: float) -> None:
    """What goes out parses; what goes up is readable."""
    for output in layer.drain():
        if isinstance(output, Send):
            assert isinstance(parse(output.data), Response)
        if isinstance(output, RequestReceived):
            received = output.request
            _ = (received.via, received.from_, received.to, received.call_id, received.contact)
            Dialog.uas(received, "tag")
            layer.respond(output.tx, received.response(486, to_tag="tag"), now)


def test_mutated_torture_messages() -> None:
    layer = TransactionLayer()
    count = 0
    for count, data in enumerate(_mutants(4475, SECONDS / 3), 1):
        now = count / 100
        _check(data, layer, now)
        _check_outputs(layer, now)
        layer.on_timer(now)
    assert count > 100
    layer.on_timer(count + 1e4)
    assert len(layer) == 0, "a transaction outlived its timers"


def test_mutated_messages_on_a_stream() -> None:
    chance = random.Random(18)
    parser = StreamParser()
    for data in _mutants(3261, SECONDS / 6):
        cut = chance.randrange(len(data) + 1)
        for piece in (data[:cut], data[cut:]):
            for item in parser.feed(piece):
                if isinstance(item, Message):
                    assert parse(item.encode()) == item
            if parser.broken:
                parser = StreamParser()


def test_mutated_responses_to_a_live_transaction() -> None:
    """Nothing that comes back for our INVITE makes the layer raise."""
    chance = random.Random(17)
    deadline = time.monotonic() + SECONDS / 6
    while time.monotonic() < deadline:
        layer = TransactionLayer()
        tx = layer.request(request(), SOURCE, "192.0.2.1", 0.0)
        answer = tx.request.response(chance.choice((100, 180, 200, 302, 486)), to_tag="x").encode()
        for _ in range(20):
            try:
                message = parse(_mutate(answer, chance))
            except MalformedMessage:
                continue
            layer.receive(message, SOURCE, 0.0)
        for output in layer.drain():
            if isinstance(output, ResponseReceived):
                Dialog.uac(tx.request, output.response)
        layer.on_timer(1e4)
        layer.on_timer(2e4)
        # RFC 3261 sets no limit on ringing: that is the transaction user's.
        assert len(layer) == 0 or tx.state is State.PROCEEDING


@SETTINGS
@given(st.binary(max_size=400))
def test_any_octets_are_a_message_or_malformed(data: bytes) -> None:
    _check(data, TransactionLayer(), 0.0)
    StreamParser().feed(data)


@SETTINGS
@given(st.text(alphabet='sip:ab@.;=?,<>"\\%[]4 \t\x00é/', max_size=40))
def test_a_value_that_parses_is_written_as_it_parses(text: str) -> None:
    for parse_value in (NameAddr.parse, Via.parse, CSeq.parse, SipUri.parse, parse_uri):
        try:
            value = parse_value(text)
        except MalformedMessage:
            continue
        assert parse_value(str(value)) == value
    assert all(split_list(item) == [item] for item in split_list(text) if "," not in item)
