"""Runs the examples of a page from top to bottom, as a reader would type them.

All blocks of a page share their names. A block may use top-level await. Its output must match its
lines ``# > ..``, where ``...`` matches anything; a block without such lines must print nothing.
Hidden blocks, in HTML comments, prepare for the visible ones.

The keyspaces of a page may get names of their own for each run (``own``), so that what another run
has left behind, or makes at the same time, is not in the way.
"""

from __future__ import annotations

import ast
import doctest
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from sybil import Sybil
from sybil.parsers.myst import CodeBlockParser

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest
    from sybil.document import Document

__all__ = ["DOCS", "ROOT", "Page", "pages"]

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
_PARSER = CodeBlockParser("python", evaluator=lambda example: None)
# keyspaces that a page creates, and the prefix of those of tenants
_KEYSPACE = re.compile(r"CREATE KEYSPACE (\w+)|prefix=\"(\w+)\"")
_SYBIL = Sybil(parsers=[_PARSER], pattern="*.md", path=str(ROOT))


def pages() -> Sequence[str]:
    """Return the names of all pages with examples, without README."""
    found = [path for path in sorted(DOCS.rglob("*.md")) if list(_parse(path).examples())]
    return [path.relative_to(DOCS).as_posix() for path in found]


def _parse(path: Path) -> Document:
    return _SYBIL.parse(path)


class Page:
    """A page with examples to run.

    Arguments:
        path: the page.
        capsys: captures the output.
        own: what the names of its keyspaces begin with, instead of those that the page shows.
        names: predefined names for the blocks.
    """

    def __init__(
        self, path: Path, capsys: pytest.CaptureFixture[str], *, own: str = "", **names: Any
    ) -> None:
        self.path = path
        self._own = own
        self.names: dict[str, Any] = {"__name__": "__main__", **names}
        self._capsys = capsys
        self.blocks = [(each.line, str(each.parsed)) for each in _parse(path).examples()]
        assert self.blocks, f"{path} has no examples"
        found = (each for _, source in self.blocks for each in _KEYSPACE.findall(source))
        keyspaces = {name or prefix for name, prefix in found}
        self._keyspaces = re.compile(rf"\b({'|'.join(keyspaces)})") if own and keyspaces else None

    async def run(self) -> None:
        """Run all blocks and compare what they print."""
        for line, source in self.blocks:
            printed = await self.run_block(line, source)
            self._compare(line, source, printed)

    async def run_block(self, line: int, source: str) -> str:
        """Run one block and return what it prints."""
        if self._keyspaces is not None:
            source = self._keyspaces.sub(rf"{self._own}\1", source)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        padded = "\n" * line + source  # so that tracebacks show the page's line numbers
        code = compile(padded, str(self.path), "exec", flags=flags, dont_inherit=True)
        self._capsys.readouterr()
        if code.co_flags & inspect.CO_COROUTINE:
            await eval(code, self.names)
        else:
            # In a thread, the block can start an event loop.
            await anyio.to_thread.run_sync(exec, code, self.names)
        printed = self._capsys.readouterr().out
        return printed.replace(self._own, "") if self._own else printed

    def _compare(self, line: int, source: str, printed: str) -> None:
        said = "".join(f"{each[4:]}\n" for each in source.splitlines() if each.startswith("# > "))
        same = doctest.OutputChecker().check_output(said, printed, doctest.ELLIPSIS)
        assert same, f"{self.path}:{line} prints\n{printed}\nand its comments say\n{said}"
