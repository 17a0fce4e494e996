"""The parent of the processes under load: it starts them, sends commands and collects figures."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cassandra.soak.terms import Figures, Phase, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

__all__ = ["Crew", "CrewError", "Running"]

_ENOUGH = 180.0  # seconds; a process that does not answer for longer hangs
_ROOT = Path(__file__).parents[3]


class CrewError(Exception):
    """A process under load has died, or does not answer."""


class _Member:
    def __init__(self, backend: str, number: int, hosts: Sequence[str]) -> None:
        self.backend = backend
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.cassandra.soak.member"]
            + [backend, str(number), *hosts],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def tell(self, **command: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.answer()  # raises the reason, which the process has sent
            raise

    def answer(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=_ENOUGH)
        except queue.Empty:
            raise CrewError(f"{self.backend} says nothing for {_ENOUGH:g} s") from None
        value: dict[str, Any] = json.loads(line or '{"died": "without a word"}')
        if "died" in value:
            raise CrewError(f"{self.backend} has died: {value['died']}")
        return value

    def end(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(20)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        self._process.stdout.close()


class Running:
    """A phase that is running.

    Arguments:
        members: the processes that run it.
    """

    def __init__(self, members: Sequence[_Member]) -> None:
        self._members = members

    def status(self) -> list[dict[str, Any]]:
        """Return what each process has done so far in this phase."""
        return self._all(do="status")

    def go_on(self, requests: int = 100, seconds: float = 0.0) -> None:
        """Wait until `requests` more have succeeded in each process, and at least `seconds`."""
        least = [each["done"] + requests for each in self.status()]
        ends = time.monotonic() + seconds
        self.until(
            lambda all_: all(each["done"] >= done for each, done in zip(all_, least, strict=True)),
            f"{requests} more requests",
        )
        time.sleep(max(0.0, ends - time.monotonic()))

    def until(self, condition: Callable[[list[dict[str, Any]]], bool], what: str) -> None:
        """Wait until a condition of all statuses holds.

        Raises:
            CrewError: the condition does not hold in time.
        """
        deadline = time.monotonic() + _ENOUGH / 2
        while not condition(all_ := self.status()):
            if time.monotonic() > deadline:
                raise CrewError(f"waited for {what}: {all_}")
            time.sleep(0.05)

    def change(self, *statements: str) -> None:
        """Change the schema through the session of one process."""
        self._members[0].tell(do="change", statements=statements)
        self._members[0].answer()

    def returned(self, *nodes: str) -> None:
        """Wait until the sessions use restored nodes again, and record how long this takes."""
        now = time.monotonic()
        for node in nodes:
            self._all(do="returned", node=node, at=now)

    def _all(self, **command: Any) -> list[dict[str, Any]]:
        for member in self._members:
            member.tell(**command)
        return [member.answer() for member in self._members]


class Crew:
    """Processes under load on one cluster: ``with Crew(hosts) as crew``.

    Arguments:
        hosts: the nodes, as ``address:port``.
        backends: the event loops; there is one process for each.

    Attributes:
        figures: the figures of all phases so far.
    """

    def __init__(self, hosts: Sequence[str], backends: Sequence[str] = ("asyncio", "trio")) -> None:
        self.figures: list[Figures] = []
        self._hosts = hosts
        self._backends = backends
        self._members: list[_Member] = []
        self._phases = 0
        self._ending: contextlib.ExitStack

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for number, backend in enumerate(self._backends, 1):
                self._members.append(_Member(backend, number, self._hosts))
                stack.callback(self._members[-1].end)
            first = self._members[0]
            first.tell(do="make")
            first.answer()
            for member in self._members:
                member.tell(do="warm up")
            for member in self._members:
                member.answer()
            self._ending = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ending.close()

    @contextmanager
    def phase(self, name: str, **fields: Any) -> Iterator[Running]:
        """Keep all processes under load while the body injects a fault; then collect the figures.

        Arguments:
            name: the name of the fault in the report.
            fields: further fields of :class:`Phase`.
        """
        self._phases += 1
        phase = told(Phase(name, self._phases, **fields))
        for member in self._members:
            member.tell(do="phase", phase=phase)
        for member in self._members:
            member.answer()
        running = Running(self._members)
        running.go_on(60)
        yield running
        for member in self._members:
            member.tell(do="finish")
        self.figures += [Figures.read(member.answer()) for member in self._members]
