"""Rules: which frames a fault is for.

Pure but for the waiting of :meth:`Rule.wait`: a rule is shown a frame and says whether it is meant.
Chance comes from a generator of the rule's own, so that with the same seed the same decisions fall
in the same order, whatever other rules do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import TYPE_CHECKING

import anyio

from cqlproto.enums import Opcode, ProtocolVersion
from cqlproto.messages import (
    read_prefix,
    read_request,
    read_request_prefix,
    read_response,
)
from cqlproto_anyio.exceptions import ConfigError
from cqlproto_anyio.testing.faults import (
    Answer,
    Corrupt,
    Cut,
    Delay,
    Drop,
    Garbage,
    Repeat,
    Stall,
)

if TYPE_CHECKING:
    from cqlproto.messages import Request, Response
    from cqlproto_anyio.testing.faults import Fault, Side

__all__ = ["Passage", "Rule", "Rules", "named"]

_FAULTS = (Answer, Corrupt, Cut, Delay, Drop, Garbage, Repeat, Stall)
_REQUESTS = frozenset(
    {
        Opcode.STARTUP,
        Opcode.OPTIONS,
        Opcode.QUERY,
        Opcode.PREPARE,
        Opcode.EXECUTE,
        Opcode.BATCH,
        Opcode.REGISTER,
        Opcode.AUTH_RESPONSE,
    }
)


class Passage:
    """A frame on its way: what rules look at.

    Attributes:
        connection: the number of the connection; the proxy's first one is 1.
        side: ``"request"`` or ``"reply"``.
        version: the protocol's version.
        opcode: the frame's own.
        request: the opcode of the request that it is or answers; None for an event, and for an
            answer to what nobody asked.
        stream: the stream id.
        statements: the texts of the request, as far as they are known: those of a BATCH are
            several, a prepared one is known if it was prepared through the proxy.
        statement_ids: the ids of its prepared statements.
        flags: those of the frame's header.
    """

    __slots__ = (
        "_read_body",
        "connection",
        "flags",
        "opcode",
        "request",
        "side",
        "statement_ids",
        "statements",
        "stream",
        "version",
    )

    def __init__(
        self,
        *,
        connection: int,
        side: Side,
        version: int,
        opcode: int,
        request: int | None,
        stream: int,
        read_body: Callable[[], bytes],
        flags: int = 0,
        statements: tuple[str, ...] = (),
        statement_ids: tuple[bytes, ...] = (),
    ) -> None:
        self.connection = connection
        self.side = side
        self.version = version
        self.opcode = opcode
        self.request = request
        self.stream = stream
        self.flags = flags
        self._read_body = read_body
        self.statements = statements
        self.statement_ids = statement_ids

    @property
    def body(self) -> bytes:
        """The frame's body, decompressed each time it is asked for.

        Raises:
            RemoteProtocolError: it is malformed.
        """
        return self._read_body()

    @property
    def message(self) -> Request | Response:
        """The message, decoded each time it is asked for.

        Raises:
            RemoteProtocolError: it is malformed.
            ValueError: the version isn't known.
        """
        version, body = ProtocolVersion(self.version), self.body
        if self.side == "request":
            start = read_request_prefix(body, self.flags, version)[1]
            return read_request(self.opcode, body, start, version)
        start = read_prefix(body, self.flags, version)[3]
        return read_response(self.opcode, body, start, version)

    def __repr__(self) -> str:
        shown = f"{named(self.opcode)} on stream {self.stream} of connection {self.connection}"
        if self.side == "reply" and self.request is not None:
            shown = f"{shown}, to {named(self.request)}"
        if self.statements:
            shown += f", {self.statements[0]!r}"
            if len(self.statements) > 1:
                shown += f" and {len(self.statements) - 1} more"
        return f"<{shown}>"


def named(opcode: int) -> str:
    """Return an opcode's name, or its number if it has none."""
    return Opcode(opcode).name if opcode in Opcode.__members__.values() else f"{opcode:#04x}"


Opcodes = Opcode | str | Iterable[Opcode | str]


class Rule:
    """A fault and the frames that it is for; the handle that tells how often it struck.

    A frame is for the rule if all conditions that are given hold. Of a proxy's rules the first that
    a frame is for strikes, the others don't see it.

    Arguments:
        fault: what is done to the frame.
        side: ``"request"`` or ``"reply"``. Left out it follows from the opcode if that is a
            reply's; else replies are meant, but for :class:`Answer`, which is for requests.
        opcode: the kind of message, or several: of requests (``"EXECUTE"``, also where the rule is
            for their replies), or of replies (``"RESULT"``, ``"EVENT"``). Left out, any: the
            handshake's and events too.
        statement: the text, in which ``%`` stands for anything, and neither case nor the width of
            white space counts; or a compiled pattern, which is searched for. It is looked for in
            QUERY, PREPARE, EXECUTE and each statement of a BATCH.
        when: a function of a :class:`Passage`.
        times: how often the rule strikes, at most.
        skip: how many frames that it is for pass first.
        probability: of striking, from 0 to 1, decided for each frame after ``skip``.

    Attributes:
        hits: how often it has struck.

    Raises:
        ConfigError: an argument is wrong.
    """

    def __init__(
        self,
        fault: Fault,
        *,
        side: Side | None = None,
        opcode: Opcodes | None = None,
        statement: str | re.Pattern[str] | None = None,
        when: Callable[[Passage], bool] | None = None,
        times: int | None = None,
        skip: int = 0,
        probability: float = 1.0,
    ) -> None:
        if not isinstance(fault, _FAULTS):
            raise ConfigError(f"{fault!r} is no fault, such as Drop()")
        self._opcodes = _opcodes(opcode)
        of_replies = self._opcodes - _REQUESTS
        if of_replies and of_replies != self._opcodes:
            raise ConfigError("opcodes of requests and of replies are for two rules")
        if side is None:
            side = "reply" if of_replies else fault.default_side
        elif side not in ("request", "reply"):
            raise ConfigError(f"side is {side!r}, not 'request' or 'reply'")
        elif of_replies and side == "request":
            raise ConfigError(f"no request is a {next(iter(of_replies)).name}")
        for name, value, least in (("times", times, 1), ("skip", skip, 0)):
            if value is not None and (type(value) is not int or value < least):
                raise ConfigError(f"{name} is {value!r}, not a number of at least {least}")
        if not isinstance(probability, (int, float)) or not 0 <= probability <= 1:
            raise ConfigError(f"probability is {probability!r}, not a number from 0 to 1")
        if when is not None and not callable(when):
            raise ConfigError(f"when is {when!r}, not a function")
        self.fault = fault
        self.side: Side = side
        self.hits = 0
        self.random = Random(0)  # the proxy that it is added to seeds it
        self._own_opcode = bool(of_replies)
        self._statement = statement
        self._pattern = _pattern(statement)
        self._when = when
        self._times = times
        self._skip = skip
        self._skipped = 0
        self._probability = probability
        self._hit: anyio.Event | None = None

    def __repr__(self) -> str:
        shown = [repr(self.fault), f"side={self.side!r}"]
        if self._opcodes:
            shown.append(f"opcode={'/'.join(sorted(opcode.name for opcode in self._opcodes))}")
        if self._statement is not None:
            shown.append(f"statement={self._statement!r}")
        return f"<Rule {', '.join(shown)}: {self.hits} hits>"

    @property
    def spent(self) -> bool:
        """Whether it has struck as often as it may."""
        return self._times is not None and self.hits >= self._times

    def is_for(self, passage: Passage) -> bool:
        """Whether the frame is of those that are meant; chance and counts aside."""
        if passage.side != self.side:
            return False
        if self._opcodes:
            opcode = passage.opcode if self._own_opcode else passage.request
            if opcode not in self._opcodes:
                return False
        if self._pattern is not None and not any(map(self._pattern, passage.statements)):
            return False
        return self._when is None or self._when(passage)

    def strikes(self, passage: Passage) -> bool:
        """Decide whether the rule strikes here, and count it."""
        if self.spent or not self.is_for(passage):
            return False
        if self._skipped < self._skip:
            self._skipped += 1
            return False
        if self._probability < 1 and self.random.random() >= self._probability:
            return False
        self.hits += 1
        if self._hit is not None:
            self._hit.set()
            self._hit = None
        return True

    async def wait(self, hits: int = 1) -> None:
        """Wait until the rule has struck so often."""
        while self.hits < hits:
            if self._hit is None:
                self._hit = anyio.Event()
            await self._hit.wait()


def _opcodes(given: Opcodes | None) -> frozenset[Opcode]:
    if given is None:
        return frozenset()
    several = [given] if isinstance(given, (Opcode, str)) else list(given)
    if not several:
        raise ConfigError("opcode is empty: no frame would be meant")
    found = []
    for item in several:
        if isinstance(item, str) and item in Opcode.__members__:
            found.append(Opcode[item])
        elif isinstance(item, Opcode):
            found.append(item)
        else:
            raise ConfigError(f"{item!r} is no opcode, such as {Opcode.EXECUTE.name!r}")
    return frozenset(found)


def _pattern(statement: str | re.Pattern[str] | None) -> Callable[[str], object] | None:
    if statement is None:
        return None
    if isinstance(statement, re.Pattern):
        return statement.search
    if not isinstance(statement, str):
        raise ConfigError(f"statement is {statement!r}, not a str or a compiled pattern")
    parts = (
        r"\s+".join(map(re.escape, re.split(r"\s+", part))) for part in statement.strip().split("%")
    )
    whole = re.compile(r"\s*" + ".*".join(parts) + r"\s*", re.IGNORECASE | re.DOTALL)
    return whole.fullmatch


class Rules:
    """The rules of a proxy, in order.

    Arguments:
        seed: what chance is made of.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._rules: list[Rule] = []
        self._added = 0

    def __bool__(self) -> bool:
        return bool(self._rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(tuple(self._rules))

    def add(self, rule: Rule, *, seeded: bool = False) -> None:
        """Put a rule behind the others.

        Arguments:
            rule: the rule.
            seeded: whether its chance is made already, by what shares it.
        """
        if rule in self._rules:
            raise ConfigError(f"{rule!r} is there already")
        if not seeded:
            rule.random = Random(f"{self.seed}/{self._added}")
        self._added += 1
        self._rules.append(rule)

    def remove(self, rule: Rule) -> None:
        """Take a rule away; nothing happens if it isn't there."""
        if rule in self._rules:
            self._rules.remove(rule)

    def clear(self) -> None:
        """Take all rules away."""
        self._rules.clear()

    def strike(self, passage: Passage) -> Rule | None:
        """Return the rule that strikes this frame."""
        for rule in self._rules:
            if rule.strikes(passage):
                return rule
        return None
