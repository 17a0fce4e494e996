"""Runs the examples of a page, from its top to its end, as a reader would type them.

All blocks of a page share their names. A block may await at its top level. What it prints has to be
what its lines ``# > ..`` say, where ``...`` stands for anything; a block without them may print
nothing. Blocks that nobody sees (in HTML comments) prepare for those that are shown.
"""

from __future__ import annotations

import ast
import doctest
import inspect
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
_SYBIL = Sybil(parsers=[_PARSER], pattern="*.md", path=str(ROOT))


def pages() -> Sequence[str]:
    """Return the names of all pages that have examples, without the README's."""
    found = [path for path in sorted(DOCS.rglob("*.md")) if list(_parse(path).examples())]
    return [path.relative_to(DOCS).as_posix() for path in found]


def _parse(path: Path) -> Document:
    return _SYBIL.parse(path)


class Page:
    """A page whose examples are to be run.

    Arguments:
        path: the page.
        capsys: takes what is printed.
        names: what the blocks find defined.
    """

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str], **names: Any) -> None:
        self.path = path
        self.names: dict[str, Any] = {"__name__": "__main__", **names}
        self._capsys = capsys
        self.blocks = [(each.line, str(each.parsed)) for each in _parse(path).examples()]
        assert self.blocks, f"{path} has no examples"

    async def run(self) -> None:
        """Run all blocks and compare what they print."""
        for line, source in self.blocks:
            printed = await self.run_block(line, source)
            self._compare(line, source, printed)

    async def run_block(self, line: int, source: str) -> str:
        """Run one block and return what it prints."""
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        padded = "\n" * line + source  # so that tracebacks name the page's lines
        code = compile(padded, str(self.path), "exec", flags=flags, dont_inherit=True)
        self._capsys.readouterr()
        if code.co_flags & inspect.CO_COROUTINE:
            await eval(code, self.names)
        else:
            # In a thread it may start an event loop of its own.
            await anyio.to_thread.run_sync(exec, code, self.names)
        return self._capsys.readouterr().out

    def _compare(self, line: int, source: str, printed: str) -> None:
        said = "".join(f"{each[4:]}\n" for each in source.splitlines() if each.startswith("# > "))
        same = doctest.OutputChecker().check_output(said, printed, doctest.ELLIPSIS)
        assert same, f"{self.path}:{line} prints\n{printed}\nand says that it prints\n{said}"
