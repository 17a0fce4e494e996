"""One connection through the proxy, without I/O: bytes go in, steps come out.

A relay parses the frames of both directions, to know a request's statements, the request that a
reply answers, and the statement ids of PREPARED. Frames that no rule strikes leave as the same
bytes. On v5 this holds for whole segments: if a rule strikes a frame of a segment, the other frames
of that segment are put into new segments.

Bytes that are not CQL, such as TLS, are relayed without parsing from then on.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from cqlproto.compression import compressor
from cqlproto.connection import Limits
from cqlproto.enums import FLAG_COMPRESSED, RESPONSE_BIT, Opcode, ProtocolVersion, ResultKind
from cqlproto.exceptions import RemoteProtocolError
from cqlproto.frames import FrameReader, write_frame
from cqlproto.messages import Batch, Startup, read_prefix, read_request, read_request_prefix
from cqlproto.segments import SegmentReader, write_segments
from cqlproto.wire import Reader, read_int, read_long_string, read_short_bytes
from cqlproto_anyio.testing.faults import (
    Answer,
    Corrupt,
    Cut,
    Delay,
    Drop,
    Fault,
    Garbage,
    Repeat,
    Stall,
)
from cqlproto_anyio.testing.passage import Passage, Side, named
from cqlproto_anyio.testing.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from cqlproto.compression import Compressor
    from cqlproto.frames import RawFrame
    from cqlproto_anyio.testing.rules import Rules

__all__ = ["End", "Entry", "Hold", "Later", "Relay", "Send", "Statements", "Step"]

Target = Literal["node", "client"]

_MAX_BODY = Limits().max_response
_MAX_STATEMENTS = 65_536
_VERSIONS = frozenset({1, 2, 3, 4, 5, 6, 65, 66})  # 65 and 66 belong to DataStax Enterprise
_ENVELOPES = 5  # from this version on frames travel in segments


class Send(NamedTuple):
    """Send bytes."""

    to: Target
    data: bytes


class Later(NamedTuple):
    """Send bytes after a delay in seconds; later steps do not wait for it."""

    to: Target
    data: bytes
    seconds: float


class Hold(NamedTuple):
    """Send nothing in either direction for so many seconds; None means until a resume."""

    seconds: float | None


class End(NamedTuple):
    """Send bytes, then close both connections."""

    to: Target
    data: bytes
    reset: bool


Step: TypeAlias = Send | Later | Hold | End


class Entry(NamedTuple):
    """A frame that a rule has struck.

    Attributes:
        connection: the number of the connection.
        fault: the fault; None where a connection is no longer parsed because its bytes are not
            CQL.
        rule: the rule.
        side: ``"request"`` or ``"reply"``.
        opcode: the opcode of the frame.
        request: the opcode of the request, or of the request that a reply answers; empty if there
            is none.
        stream: the stream id.
        statements: the texts of the request's statements.
        note: why the connection is no longer parsed.
    """

    connection: int
    fault: Fault | None
    rule: Rule | None
    side: Side
    opcode: str = ""
    request: str = ""
    stream: int = 0
    statements: tuple[str, ...] = ()
    note: str = ""


class Statements:
    """The texts of prepared statements by their ids; the oldest go where there are too many."""

    def __init__(self) -> None:
        self._texts: dict[bytes, str] = {}

    def learn(self, statement_id: bytes, text: str) -> None:
        """Keep the text of a statement."""
        self._texts.pop(statement_id, None)
        self._texts[statement_id] = text
        if len(self._texts) > _MAX_STATEMENTS:
            del self._texts[next(iter(self._texts))]

    def texts(self, ids: tuple[bytes, ...]) -> tuple[str, ...]:
        """Return the texts of the known statements among these ids."""
        return tuple([self._texts[one] for one in ids if one in self._texts])


class _Asked(NamedTuple):
    """A request without a reply so far."""

    opcode: int
    statements: tuple[str, ...]
    statement_ids: tuple[bytes, ...]
    startup: Startup | None


class _Half:
    """The bytes from one end, cut into units: frames, on v5 segments."""

    def __init__(self, *, responses: bool) -> None:
        self._frames = FrameReader(max_body=_MAX_BODY, responses=responses)
        self._segments: SegmentReader | None = None
        self._long = False  # within a frame that is longer than a segment
        self._raw = bytearray()  # received and not yet cut off

    def feed(self, data: bytes) -> None:
        self._raw += data
        (self._segments or self._frames).feed(data)

    def begin_segments(self, codec: Compressor | None) -> None:
        self._segments = SegmentReader(codec)
        self._segments.feed(self._frames.take_back())

    def next(self) -> tuple[bytes, list[RawFrame]] | None:
        """Return the bytes of the next unit, and its frames.

        Raises:
            RemoteProtocolError: the bytes are not CQL.
        """
        if self._segments is None:
            # The bytes of TLS would be taken for a frame header with a length to wait for.
            if self._raw and (version := self._raw[0] & ~RESPONSE_BIT) not in _VERSIONS:
                raise RemoteProtocolError(f"unknown protocol version {version}")
            frame = self._frames.read()
            return None if frame is None else (self._cut(self._frames.pending), [frame])
        while (segment := self._segments.read()) is not None:
            self._frames.feed(segment.payload)
            frames = []
            while (frame := self._frames.read()) is not None:
                frames.append(frame)
            partial_frame = self._frames.pending > 0
            if segment.self_contained and (self._long or partial_frame):
                raise RemoteProtocolError("a self-contained segment has an incomplete frame")
            self._long = partial_frame
            if not partial_frame:
                return self._cut(self._segments.pending), frames
        return None

    def rest(self) -> bytes:
        """Return the bytes that are left, and drop them."""
        return self._cut(0)

    def _cut(self, pending: int) -> bytes:
        end = len(self._raw) - pending
        data = bytes(self._raw[:end])
        del self._raw[:end]
        return data


class Relay:
    """Decides what happens to the bytes of one connection.

    Arguments:
        number: the number of the connection.
        rules: the rules of the proxy; they may change at any time.
        statements: the prepared statements, shared with other connections.
        log: called with an entry for each frame that a rule strikes.
    """

    def __init__(
        self, number: int, rules: Rules, statements: Statements, log: Callable[[Entry], None]
    ) -> None:
        self._number = number
        self._rules = rules
        self._statements = statements
        self._log = log
        self._halves: dict[Side, _Half] = {
            "request": _Half(responses=False),
            "reply": _Half(responses=True),
        }
        self._asked: dict[int, _Asked] = {}
        self._codec: Compressor | None = None
        self._started = False
        self._segmented = False
        self._opaque = False
        self._ended = False

    def receive(self, side: Side, data: bytes) -> list[Step]:
        """Return the steps for bytes from the client (``"request"``) or the node (``"reply"``).

        Raises:
            LocalProtocolError: the library of the connection's compression is not installed, or an
                Answer can't be written in the connection's version.
        """
        steps: list[Step] = []
        if self._ended:
            return steps
        if self._opaque:
            return [Send(_target(side), data)]
        half = self._halves[side]
        half.feed(data)
        while not self._ended:
            try:
                unit = half.next()
            except RemoteProtocolError as exc:
                self._opaque = True
                self._log(Entry(self._number, None, None, side, note=f"relayed unread: {exc}"))
                steps += self.finish("request") + self.finish("reply")
                break
            if unit is None:
                break
            self._take(side, *unit, steps)
        return steps

    def finish(self, side: Side) -> list[Step]:
        """Return the steps for an incomplete frame at the end of one direction."""
        rest = self._halves[side].rest()
        return [Send(_target(side), rest)] if rest and not self._ended else []

    def _take(self, side: Side, raw: bytes, frames: list[RawFrame], steps: list[Step]) -> None:
        """Add the steps for one unit: a frame, or the frames of a segment."""
        decided: list[tuple[RawFrame, Passage | None, Rule | None]] = []
        struck = False
        opener: _Asked | None = None
        for frame in frames:
            passage, asked = self._passage(side, frame)
            rule = None if passage is None else self._rules.strike(passage)
            decided.append((frame, passage, rule))
            if side == "request":
                if asked is not None and (rule is None or _passes(rule.fault)):
                    self._asked[frame.stream] = asked
            elif asked is not None and _opens(asked, frame.opcode):
                opener = asked
            if rule is not None:
                struck = True
                if _ends(rule.fault):
                    self._ended = True
                    break
        if struck:
            self._take_apart(side, decided, steps)
        else:
            _send(steps, _target(side), raw)
        if opener is not None and not self._started:
            self._start(opener, frames[0].version & ~RESPONSE_BIT)

    def _take_apart(
        self,
        side: Side,
        decided: list[tuple[RawFrame, Passage | None, Rule | None]],
        steps: list[Step],
    ) -> None:
        """Add the steps for a unit of which at least one frame is struck."""
        untouched: list[bytes] = []
        for frame, passage, rule in decided:
            if rule is None or passage is None:
                untouched.append(bytes(frame))
                continue
            if untouched:
                _send(steps, _target(side), self._wire(untouched))
                untouched = []
            self._log(
                Entry(
                    self._number,
                    rule.fault,
                    rule,
                    side,
                    named(passage.opcode),
                    "" if passage.request is None else named(passage.request),
                    passage.stream,
                    passage.statements,
                )
            )
            self._do(rule.fault, rule.random, passage, frame, steps)
        if untouched:
            _send(steps, _target(side), self._wire(untouched))

    def _do(
        self, fault: Fault, random: Random, passage: Passage, frame: RawFrame, steps: list[Step]
    ) -> None:
        to = _target(passage.side)
        plain = bytes(frame)
        wire = self._wire([plain])
        match fault:
            case Drop(connection, reset):
                if connection:
                    steps.append(End(to, b"", reset))
            case Delay(seconds, jitter):
                steps.append(Later(to, wire, seconds + jitter * random.random()))
            case Stall(pause):
                steps += [Hold(pause), Send(to, wire)]
            case Cut(after, reset):
                after = len(wire) // 2 if after is None else min(after, len(wire) - 1)
                steps.append(End(to, wire[:after], reset))
            case Corrupt(at, mask, valid_checksum):
                if valid_checksum:
                    wire = self._wire([_flip(plain, at, mask, random)])
                else:
                    wire = _flip(wire, at, mask, random)
                _send(steps, to, wire)
            case Garbage(data):
                _send(steps, to, data if isinstance(data, bytes) else random.randbytes(data))
            case Repeat(times):
                _send(steps, to, self._wire([plain] * times))
            case Answer():
                _send(steps, "client", self._wire([_answer(fault, passage)]))

    def _wire(self, frames: list[bytes]) -> bytes:
        """Return frames as they are sent, on v5 in segments."""
        return write_segments(frames, self._codec) if self._segmented else b"".join(frames)

    def _passage(self, side: Side, frame: RawFrame) -> tuple[Passage | None, _Asked | None]:
        """Return the passage of a frame, and its request; for a reply without rules no passage."""
        version = frame.version & ~RESPONSE_BIT
        if side == "request":
            asked = self._read(frame, version)
        else:
            known = self._asked.pop(frame.stream, None)
            if known is not None and known.opcode == Opcode.PREPARE:
                self._learn(known.statements, frame, version)
            if not self._rules:
                return None, known
            asked = known or _NOTHING
        passage = Passage(
            connection=self._number,
            side=side,
            version=version,
            opcode=frame.opcode,
            request=None if asked is _NOTHING else asked.opcode,
            stream=frame.stream,
            flags=frame.flags,
            read_body=partial(self._body, frame),
            statements=asked.statements,
            statement_ids=asked.statement_ids,
        )
        return passage, asked

    def _body(self, frame: RawFrame) -> bytes:
        if frame.flags & FLAG_COMPRESSED and not self._segmented:
            if self._codec is None:
                raise RemoteProtocolError("a compressed frame on a connection without compression")
            return self._codec.decompress(frame.body, _MAX_BODY)
        return frame.body

    def _read(self, frame: RawFrame, number: int) -> _Asked:
        """Read the statements of a request; a malformed request has none."""
        opcode = frame.opcode
        texts: tuple[str, ...] = ()
        ids: tuple[bytes, ...] = ()
        startup = None
        try:
            version = ProtocolVersion(number)
            if opcode in _TOLD:
                body = self._body(frame)
                start = read_request_prefix(body, frame.flags, version)[1]
                if opcode in (Opcode.QUERY, Opcode.PREPARE):
                    texts = (read_long_string(Reader(body, start)),)
                elif opcode == Opcode.EXECUTE:
                    ids = (read_short_bytes(Reader(body, start)),)
                    texts = self._statements.texts(ids)
                else:
                    message = read_request(opcode, body, start, version)
                    if isinstance(message, Startup):
                        startup = message
                    elif isinstance(message, Batch):
                        queries = [statement.query for statement in message.statements]
                        ids = tuple([one for one in queries if isinstance(one, bytes)])
                        texts = tuple([one for one in queries if isinstance(one, str)])
                        texts += self._statements.texts(ids)
        except (RemoteProtocolError, ValueError):
            pass  # the node refuses the request
        return _Asked(opcode, texts, ids, startup)

    def _learn(self, texts: tuple[str, ...], frame: RawFrame, number: int) -> None:
        """Keep the statement id of a PREPARED reply."""
        if not texts or frame.opcode != Opcode.RESULT:
            return
        try:
            body = self._body(frame)
            start = read_prefix(body, frame.flags, ProtocolVersion(number))[3]
            reader = Reader(body, start)
            if read_int(reader) == ResultKind.PREPARED:
                self._statements.learn(read_short_bytes(reader), texts[0])
        except (RemoteProtocolError, ValueError):
            pass  # the client reports the reply

    def _start(self, asked: _Asked, version: int) -> None:
        """Start compression and, from v5 on, segments: the node has accepted STARTUP."""
        self._started = True
        options = {} if asked.startup is None else asked.startup.options
        name = options.get("COMPRESSION", "").lower()
        self._codec = compressor(name) if name else None
        if version >= _ENVELOPES:
            self._segmented = True
            for half in self._halves.values():
                half.begin_segments(self._codec)


_NOTHING = _Asked(-1, (), (), None)
# Requests whose body is parsed.
_TOLD = frozenset({Opcode.STARTUP, Opcode.QUERY, Opcode.PREPARE, Opcode.EXECUTE, Opcode.BATCH})


def _target(side: Side) -> Target:
    return "node" if side == "request" else "client"


def _opens(asked: _Asked, opcode: int) -> bool:
    return asked.opcode == Opcode.STARTUP and opcode in (Opcode.READY, Opcode.AUTHENTICATE)


def _passes(fault: Fault) -> bool:
    """Whether a request with this fault reaches the node."""
    return isinstance(fault, (Delay, Stall, Corrupt, Repeat))


def _ends(fault: Fault) -> bool:
    """Whether this fault ends the connection."""
    return isinstance(fault, Cut) or (isinstance(fault, Drop) and fault.connection)


def _flip(data: bytes, at: int | None, mask: int, random: Random) -> bytes:
    """Return the bytes with one changed; an index out of range is moved to the nearest byte."""
    if at is None:
        at = random.randrange(len(data))
    elif at < 0:
        at = max(len(data) + at, 0)
    at = min(at, len(data) - 1)
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def _answer(fault: Answer, passage: Passage) -> bytes:
    """Return the frame that answers a request, in the nearest supported version."""
    version = ProtocolVersion(min(max(passage.version, 3), 5))
    message = fault.response(passage)
    body = bytearray()
    message.write_body(body, version)
    return write_frame(version | RESPONSE_BIT, 0, passage.stream, message.opcode, bytes(body))


def _send(steps: list[Step], to: Target, data: bytes) -> None:
    """Add bytes, to the last step if that sends to the same end."""
    if steps:
        last = steps[-1]
        if isinstance(last, Send) and last.to == to:
            steps[-1] = Send(to, last.data + data)
            return
    steps.append(Send(to, data))
