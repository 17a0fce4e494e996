"""Rules: a rule selects the frames that its fault is applied to.

Everything but :meth:`Rule.wait` is pure. Each rule has a random generator of its own, so that with
the same seed a rule makes the same decisions in the same order, whatever other rules do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import TYPE_CHECKING

import anyio

from cqlproto.enums import Opcode
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
    from cqlproto_anyio.testing.faults import Fault
    from cqlproto_anyio.testing.passage import Passage, Side

__all__ = ["Rule", "Rules"]

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


Opcodes = Opcode | str | Iterable[Opcode | str]


class Rule:
    """A fault, and the frames that it is applied to.

    A frame matches if all given conditions hold. The first rule of a proxy that strikes a frame
    decides; later rules do not see the frame.

    Arguments:
        fault: the fault.
        side: ``"request"`` or ``"reply"``. By default the side of the opcode if it is a reply's
            opcode, else the fault's default: replies, and requests for :class:`Answer`.
        opcode: one opcode or several, either of requests (``"EXECUTE"``; replies to such requests
            match as well) or of replies (``"RESULT"``, ``"EVENT"``). By default any opcode,
            those of the handshake and of events included.
        statement: a pattern for the whole text, in which ``%`` matches anything and case and the
            amount of white space are ignored; or a compiled pattern, which is searched for. It is
            compared with QUERY, PREPARE, EXECUTE and each statement of a BATCH.
        when: a function that takes a :class:`Passage` and returns whether it matches.
        times: the rule strikes at most this many times.
        skip: this many matching frames pass first.
        probability: the probability of striking a matching frame after ``skip``, 0 to 1.

    Attributes:
        hits: how many times the rule has struck.

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
            raise ConfigError(f"fault must be a fault such as Drop(), got {fault!r}")
        self._opcodes = _opcodes(opcode)
        of_replies = self._opcodes - _REQUESTS
        if of_replies and of_replies != self._opcodes:
            raise ConfigError("opcode mixes requests and replies: add a rule for each")
        if side is None:
            side = "reply" if of_replies else fault.default_side
        elif side not in ("request", "reply"):
            raise ConfigError(f"side must be 'request' or 'reply', got {side!r}")
        elif of_replies and side == "request":
            raise ConfigError(f"{next(iter(of_replies)).name} is a reply: pass side='reply'")
        for name, value, least in (("times", times, 1), ("skip", skip, 0)):
            if value is not None and (type(value) is not int or value < least):
                raise ConfigError(f"{name} must be an integer of at least {least}, got {value!r}")
        if not isinstance(probability, (int, float)) or not 0 <= probability <= 1:
            raise ConfigError(f"probability must be 0 to 1, got {probability!r}")
        if when is not None and not callable(when):
            raise ConfigError(f"when must be a function, got {when!r}")
        self.fault = fault
        self.side: Side = side
        self.hits = 0
        self.random = Random(0)  # replaced by the proxy that the rule is added to
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
        """Whether the rule has struck ``times`` times."""
        return self._times is not None and self.hits >= self._times

    def is_for(self, passage: Passage) -> bool:
        """Whether a frame matches, apart from ``times``, ``skip`` and ``probability``."""
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
        """Decide whether the rule strikes a frame, and count it."""
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
        """Wait until the rule has struck ``hits`` times in all."""
        while self.hits < hits:
            if self._hit is None:
                self._hit = anyio.Event()
            await self._hit.wait()


def _opcodes(given: Opcodes | None) -> frozenset[Opcode]:
    if given is None:
        return frozenset()
    several = [given] if isinstance(given, (Opcode, str)) else list(given)
    if not several:
        raise ConfigError("opcode must not be empty: no frame would match")
    found = []
    for item in several:
        if isinstance(item, str) and item in Opcode.__members__:
            found.append(Opcode[item])
        elif isinstance(item, Opcode):
            found.append(item)
        else:
            raise ConfigError(
                f"opcode must be an opcode such as {Opcode.EXECUTE.name!r}, got {item!r}"
            )
    return frozenset(found)


def _pattern(statement: str | re.Pattern[str] | None) -> Callable[[str], object] | None:
    if statement is None:
        return None
    if isinstance(statement, re.Pattern):
        return statement.search
    if not isinstance(statement, str):
        raise ConfigError(f"statement must be a str or a compiled pattern, got {statement!r}")
    parts = (
        r"\s+".join(map(re.escape, re.split(r"\s+", part))) for part in statement.strip().split("%")
    )
    whole = re.compile(r"\s*" + ".*".join(parts) + r"\s*", re.IGNORECASE | re.DOTALL)
    return whole.fullmatch


class Rules:
    """The rules of a proxy, in order.

    Arguments:
        seed: the seed of the rules' random generators.
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
        """Append a rule.

        Arguments:
            rule: the rule.
            seeded: keep the rule's random generator: several proxies share the rule.

        Raises:
            ConfigError: the rule was added before.
        """
        if rule in self._rules:
            raise ConfigError(f"the rule was added before: {rule!r}")
        if not seeded:
            rule.random = Random(f"{self.seed}/{self._added}")
        self._added += 1
        self._rules.append(rule)

    def remove(self, rule: Rule) -> None:
        """Remove a rule; a rule that was not added is ignored."""
        if rule in self._rules:
            self._rules.remove(rule)

    def clear(self) -> None:
        """Remove all rules."""
        self._rules.clear()

    def strike(self, passage: Passage) -> Rule | None:
        """Return the rule that strikes a frame, or None."""
        for rule in self._rules:
            if rule.strikes(passage):
                return rule
        return None
