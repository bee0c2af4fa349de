"""Codecs across a call with a voice client: passed through where one is common, else transcoded.

An offer that crosses has ours behind its own: Opus where it has G.711, and G.711 where it has
Opus. Only an answer that prefers one of those makes the engine transcode; from any other
answer they are taken out again.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from relay.errors import NoCommonCodec
from relay.sdp.description import Coding
from relay.sdp.session import NOT_VOICE, Codecs, MediaSection, Session, Stream

OPUS, PCMU, PCMA = ("OPUS", 48000), ("PCMU", 8000), ("PCMA", 8000)
G711 = (PCMU, PCMA)
EVENTS = "TELEPHONE-EVENT"
# By codec: the number that it is offered under where that is free, and its lines.
_OURS = {
    OPUS: (111, "opus/48000/2", "minptime=10;useinbandfec=1"),
    PCMU: (0, "PCMU/8000", ""),
    PCMA: (8, "PCMA/8000", ""),
    (EVENTS, 48000): (110, "telephone-event/48000", "0-15"),
    (EVENTS, 8000): (101, "telephone-event/8000", "0-15"),
}
_DYNAMIC = range(96, 128)
_CODEC_LINES = ("a=rtpmap:", "a=fmtp:", "a=rtcp-fb:", "a=ptime:", "a=maxptime:")
_PTIMES = ("10", "20", "40", "60")  # milliseconds that Opus has a frame of


class Transcoding(Enum):
    """Whether a call may be transcoded; the value says why not."""

    UNASKED = "between trunks"  # whose codecs are their own affair
    OFF = "transcoding is off for this account"
    NOT_BUILT = "transcoding is not built"
    ON = "Opus and G.711 are all that is transcoded"


class Match(NamedTuple):
    """What an answer means: `answered` as the engine is told, `told` as the offerer is."""

    answered: Stream
    told: Stream
    offerer: Coding | None = None
    answerer: Coding | None = None


def extended(stream: Stream, known: Codecs) -> Stream:
    """An offered stream with what a transcoder can add; `known` are the codecs of the leg that
    is offered it, as it listed them last.

    No number changes its meaning. Ours come first for a leg that has none of the offerer's:
    browsers send what an offer prefers, whatever they answer.
    """
    section = stream.section
    added = list(_added(section, known))
    if not added:
        return stream
    lines = list(section.lines)
    for number, encoding, parameters in added:
        lines.append(f"a=rtpmap:{number} {encoding}")
        if parameters:
            lines.append(f"a=fmtp:{number} {parameters}")
    ours = tuple(str(number) for number, _, _ in added)
    voices = {codec for codec in section.codecs().values() if codec[0] not in NOT_VOICE}
    if known and voices.isdisjoint(known.values()):
        return edited(stream, (*ours, *section.formats), lines)
    return edited(stream, (*section.formats, *ours), lines)


def match(offered: Stream, answer: Stream, transcoding: Transcoding) -> Match:
    """Pass through, or transcode. Raises NoCommonCodec (488)."""
    if transcoding is Transcoding.UNASKED:
        return Match(answer, answer)
    has = offered.section.codecs()
    for codec in answer.section.codecs().values():  # the preferred one first
        if codec[0] in NOT_VOICE:
            continue
        if codec in has.values():
            answer = narrowed(answer, has)
            return Match(answer, answer)
        if transcoding is Transcoding.ON:
            partners = G711 if codec == OPUS else (OPUS,) if codec in G711 else ()
            for number, own in has.items():
                if own in partners:
                    return _transcoded(offered, number, answer, codec)
    raise NoCommonCodec(f"no common codec, and {transcoding.value}")


def transcodable(stream: Stream) -> bool:
    """Whether it lacks what a transcoder would add."""
    return next(_added(stream.section, {}), None) is not None


def edited(stream: Stream, formats: tuple[str, ...], lines: list[str]) -> Stream:
    """The same audio with other formats and lines; all else of the description stays."""
    section = stream.section
    copy = MediaSection(section.media, section.port, section.protocol, formats, lines)
    copy.way = section.way
    sections = list(stream.session.sections)
    sections[stream.position] = copy
    return Stream(Session(stream.session.lines, sections), stream.position)


def _added(section: MediaSection, known: Codecs) -> Iterator[tuple[int, str, str]]:
    codecs = section.codecs()
    has = set(codecs.values())
    if OPUS in has:
        wanted = [codec for codec in G711 if codec not in has]
    else:
        wanted = [OPUS] if has.intersection(G711) else []
    if wanted and any(name == EVENTS for name, _ in has):
        wanted += [] if (EVENTS, wanted[0][1]) in has else [(EVENTS, wanted[0][1])]
    taken = {*section.payload_types(), *known}
    for codec in wanted:
        usual, encoding, parameters = _OURS[codec]
        used = [n for n, c in known.items() if c == codec and n not in codecs]
        free = (n for n in (usual, *_DYNAMIC) if n not in taken)
        number = used[0] if used else next(free, None)
        if number is not None:
            taken.add(number)
            yield number, encoding, parameters


def narrowed(answer: Stream, has: Codecs) -> Stream:
    """Without the codecs that are not among `has`: the offerer's, where ours were beside them."""
    section = answer.section
    codecs = section.codecs()
    strange = {str(n) for n, codec in codecs.items() if codec not in has.values()}
    if not strange:
        return answer
    formats = tuple(text for text in section.formats if text not in strange)
    return edited(answer, formats, [line for line in section.lines if not _is_of(line, strange)])


def _is_of(line: str, numbers: set[str]) -> bool:
    """Whether it tells of one of these payload types."""
    if not line.startswith(_CODEC_LINES[:3]):
        return False
    return line.partition(":")[2].partition(" ")[0].strip() in numbers


def _transcoded(offered: Stream, number: int, answer: Stream, codec: tuple[str, int]) -> Match:
    """The offerer speaks `number` of its own, the answerer `codec`; each hears of its own."""
    section = answer.section
    theirs = next(n for n, c in section.codecs().items() if c == codec)
    offerer, answerer = _coding(offered.section, number), _coding(section, theirs)
    if offerer.telephone_event is None or answerer.telephone_event is None:
        offerer = offerer._replace(telephone_event=None)
        answerer = answerer._replace(telephone_event=None)
    lines = [line for line in section.lines if not line.startswith(_CODEC_LINES)]
    own = offered.section.codecs()
    kept = (number, offerer.telephone_event, offerer.comfort_noise)
    formats = tuple(str(each) for each in kept if each is not None)
    for text in formats:
        if (ours := _OURS.get(own[int(text)])) is None:
            lines.append(f"a=rtpmap:{text} CN/8000")
            continue
        lines.append(f"a=rtpmap:{text} {ours[1]}")
        if ours[2]:
            lines.append(f"a=fmtp:{text} {ours[2]}")
    lines.append(f"a=ptime:{offerer.ptime_ms}")
    return Match(answer, edited(answer, formats, lines), offerer, answerer)


def _coding(section: MediaSection, number: int) -> Coding:
    """How a leg writes what it lists under `number`."""
    codecs = section.codecs()
    name, clock_hz = codecs[number]
    numbers = {codec: n for n, codec in reversed(list(codecs.items()))}  # the first counts
    ptime = section.attribute("ptime")
    return Coding(
        name,
        number,
        clock_hz,
        numbers.get((EVENTS, clock_hz)),
        numbers.get(("CN", clock_hz)),
        int(ptime) if ptime in _PTIMES else 20,
        name == "OPUS" and _asks_for_fec(section, number),
    )


def _asks_for_fec(section: MediaSection, number: int) -> bool:
    start = f"a=fmtp:{number} "
    return any(
        line.startswith(start) and "useinbandfec=1" in line.replace(" ", "").lower()
        for line in section.lines
    )
