"""A verdict for every torture message of RFC 4475, as the relay sees it on the wire.

Each goes through parser and transaction layer, as a datagram would. Where the RFC leaves
a choice between refusing and inferring the sender's intent, the comment says what we do.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.errors import MalformedMessage
from relay.sip.message import Request, Response
from relay.sip.parser import parse
from relay.sip.transaction import (
    Hop,
    RequestReceived,
    Send,
    StrayResponse,
    TransactionLayer,
)
from tests.unit.sip_samples import TORTURE

SOURCE = Hop("udp", "192.0.2.200", 5060, 1)
PASSED_UP = "passed up"
DROPPED = "dropped"

VERDICTS: dict[str, str | int] = {
    # 3.1.1 valid messages
    "wsinv": PASSED_UP,
    "intmeth": PASSED_UP,
    "esc01": PASSED_UP,
    "escnull": PASSED_UP,
    "esc02": PASSED_UP,
    "lwsdisp": PASSED_UP,
    "longreq": PASSED_UP,
    "dblreq": PASSED_UP,  # the second request in the datagram is beyond Content-Length
    "semiuri": PASSED_UP,
    "transports": PASSED_UP,
    "mpart01": PASSED_UP,
    "unreason": "stray 2xx",  # a 2xx to an INVITE that we never sent
    "noreason": DROPPED,  # a valid 100 for nothing we sent
    # 3.1.2 invalid messages
    "badinv01": 400,
    "clerr": 400,
    "ncl": 400,
    "scalar02": 400,
    "scalarlg": DROPPED,  # a response is never answered
    "quotbal": 400,
    "ltgtruri": 400,
    "lwsruri": 400,
    "lwsstart": PASSED_UP,  # more SP than one: the intent is plain
    "trws": PASSED_UP,  # SP at the end of the line: the intent is plain
    "escruri": 400,
    "baddate": PASSED_UP,  # nobody reads Date here
    "regbadct": 400,
    "badaspec": PASSED_UP,  # the intent is plain; written without the spaces
    "baddn": PASSED_UP,  # the intent is plain; written in quotes
    "badvers": 505,
    "mismatch01": 400,
    "mismatch02": 400,
    "bigcode": DROPPED,
    # 3.2 transaction layer semantics
    "badbranch": PASSED_UP,  # the bare cookie is matched as RFC 2543 says
    # 3.3 application layer semantics
    "insuf": 400,
    "unkscm": 416,
    "novelsc": 416,
    "unksm2": PASSED_UP,  # schemes of To, From and Contact are the application's business
    "bext01": 420,
    "invut": PASSED_UP,  # 415 is the application's
    "regaut01": PASSED_UP,
    "multi01": 400,
    "mcl01": 400,
    "bcast": DROPPED,  # two Via: not for us
    "zeromf": PASSED_UP,  # ours to answer, not to send on
    "cparam01": PASSED_UP,
    "cparam02": PASSED_UP,
    "regescrt": PASSED_UP,
    "sdp01": PASSED_UP,  # 406 is the application's
    # 3.4 backward compatibility
    "inv2543": PASSED_UP,
    # not in the RFC, but beside its files: no SIP version, a line without colon
    "test": DROPPED,
}


def _octets(name: str) -> bytes:
    return (TORTURE / f"{name}.dat").read_bytes()


def _verdict(data: bytes) -> str | int:
    layer = TransactionLayer()
    try:
        layer.receive(parse(data), SOURCE, 0.0)
    except MalformedMessage as error:
        if isinstance(error.message, Request):
            layer.reject(error.message, 400, SOURCE, 0.0)
    outputs = layer.drain()
    if any(isinstance(output, RequestReceived) for output in outputs):
        return PASSED_UP
    if any(isinstance(output, StrayResponse) for output in outputs):
        return "stray 2xx"
    for output in outputs:
        if isinstance(output, Send):
            answer = parse(output.data)
            assert isinstance(answer, Response)
            assert output.hop.host == SOURCE.host
            return answer.status
    return DROPPED


@pytest.mark.parametrize("path", sorted(TORTURE.glob("*.dat")), ids=lambda path: path.stem)
def test_each_file_gets_its_verdict(path: Path) -> None:
    assert path.stem in VERDICTS, "a torture message without a verdict"
    assert _verdict(path.read_bytes()) == VERDICTS[path.stem]


def test_no_verdict_is_without_its_file() -> None:
    assert {path.stem for path in TORTURE.glob("*.dat")} == set(VERDICTS)
    assert len(VERDICTS) == 50


def _request(name: str) -> Request:
    message = parse(_octets(name))
    assert isinstance(message, Request)
    return message


def test_wsinv() -> None:
    """Section 3.1.1.1: white space, folding, case, empty values."""
    message = _request("wsinv")
    assert message.uri == "sip:vivekg@chair-dnrc.example.com;unknownparam"
    assert message.to.tag == "1918181833n"
    assert message.from_.display == 'J Rosenberg \\"'
    assert message.from_.tag == "98asjd8"
    assert message.max_forwards == 68
    assert (message.cseq.number, message.cseq.method) == (9, "INVITE")
    assert message.via.branch == "390skdjuw"
    assert [value.partition("branch")[0].split() for value in message.headers.all("Via")[1:]] == [
        ["SIP", "/", "2.0", "/", "TCP", "spindle.example.com", ";"],
        ["SIP", "/", "2.0", "/", "UDP", "192.168.255.111", ";"],
    ]
    assert message.headers.get("Subject") == ""
    assert message.headers.get("newfangledheader") == "newfangled value continued newfangled value"
    assert message.contact is not None
    assert message.contact.display == 'Quoted string ""'
    assert message.contact.param("q") == "0.33"
    assert len(message.body) == 150


def test_intmeth() -> None:
    """Section 3.1.1.2: every character that a token or a URI may hold."""
    message = _request("intmeth")
    assert message.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert message.to.display == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert message.from_.display == "token1~` token2'+_ token3*%!.-"
    assert message.cseq.method == message.method


def test_esc01_keeps_escapes() -> None:
    """Section 3.1.1.3: %-escapes are not decoded in passing."""
    message = _request("esc01")
    assert message.uri == "sip:sips%3Auser%40example.com@example.net"
    assert message.contact is not None
    assert str(message.contact.uri).startswith("sip:cal%6Cer@host5.example.net;%6C%72;n%61me=")


def test_esc02_knows_no_escapes_in_tokens() -> None:
    """Section 3.1.1.5: RE%47IST%45R is not REGISTER, C%6Fntact is not Contact."""
    message = _request("esc02")
    assert message.method == "RE%47IST%45R"
    assert message.from_.display == "%Z%45"
    assert len(message.headers.all("Contact")) == 2


def test_dblreq_ends_at_content_length() -> None:
    """Section 3.1.1.8."""
    assert _request("dblreq").body == b""


def test_semiuri() -> None:
    """Section 3.1.1.9: ";" and "@" escaped in the user part."""
    assert "semiuri" in _request("semiuri").call_id
    assert len(_request("semiuri").headers.all("Accept")) == 6


def test_mpart01_keeps_a_binary_body() -> None:
    """Section 3.1.1.11."""
    message = _request("mpart01")
    assert message.content_type == "multipart/mixed"
    assert message.encode().endswith(message.body)
    assert b"\x00" in message.body


def test_unreason_keeps_utf8() -> None:
    """Section 3.1.1.12."""
    message = parse(_octets("unreason"))
    assert isinstance(message, Response)
    assert message.reason.startswith("= 2**3 * 5**2 но сто девяносто")


def test_noreason_has_an_empty_phrase() -> None:
    """Section 3.1.1.13."""
    message = parse(_octets("noreason"))
    assert isinstance(message, Response)
    assert (message.status, message.reason) == (100, "")


def test_liberal_reading_is_written_strictly() -> None:
    """Sections 3.1.2.14 and 3.1.2.15."""
    assert str(_request("badaspec").to) == '"Watson, Thomas" <sip:t.watson@example.org>'
    assert str(_request("baddn").from_) == '"Bell, Alexander" <sip:a.g.bell@example.com>;tag=43'


def test_cparam_tells_header_from_uri_parameters() -> None:
    """Sections 3.3.13 and 3.3.14: only the second has it in the URI."""
    outside, inside = _request("cparam01").contact, _request("cparam02").contact
    assert outside is not None
    assert inside is not None
    assert outside.param("unknownparam") == ""
    assert str(outside.uri) == "sip:+19725552222@gw1.example.net"
    assert inside.param("unknownparam") is None
    assert str(inside.uri) == "sip:+19725552222@gw1.example.net;unknownparam"


def test_bext01_is_told_what_is_not_supported() -> None:
    """Section 3.3.5."""
    layer = TransactionLayer()
    layer.receive(parse(_octets("bext01")), SOURCE, 0.0)
    (output,) = layer.drain()
    assert isinstance(output, Send)
    answer = parse(output.data)
    assert answer.headers.all("Unsupported") == [
        "nothingSupportsThis",
        "nothingSupportsThisEither",
    ]


@pytest.mark.parametrize("name", [name for name, verdict in VERDICTS.items() if verdict != 400])
def test_what_parses_is_written_and_read_as_the_same(name: str) -> None:
    try:
        message = parse(_octets(name))
    except MalformedMessage:
        assert VERDICTS[name] == DROPPED
        return
    assert parse(message.encode()) == message
