"""Directives that generate parts of the pages from the package during the build.

``state-diagram``   the handshake, drawn by ``statediagram``
``replies-table``   the replies to each request, from ``cqlproto._state``
``exported-again``  names of a package that are documented under another package
``unreleased``      the changelog's fragments, rendered by towncrier
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes  # type: ignore[import-untyped]  # it has no types
from docutils.statemachine import StringList  # type: ignore[import-untyped]  # likewise
from sphinx.util.docutils import SphinxDirective

from cqlproto._state import REPLIES, RESULTS
from cqlproto.enums import Opcode
from docs import statediagram

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["replies", "setup"]

ROOT = Path(__file__).parent.parent


class StateDiagram(SphinxDirective):
    """The handshake as inline SVG, which takes the page's colours."""

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", statediagram.draw(), format="html")]


def replies() -> list[tuple[str, str]]:
    """Return each request with its possible replies; a RESULT is listed by kind."""
    rows = []
    for request, codes in REPLIES.items():
        names = [Opcode(code).name for code in sorted(codes) if code != Opcode.RESULT]
        kinds = sorted(f"RESULT ({kind.__name__})" for kind in RESULTS.get(request, ()))
        rows.append((request.name, ", ".join(kinds + names)))
    return rows


class RepliesTable(SphinxDirective):
    """A table of requests and their possible replies."""

    def run(self) -> list[nodes.Node]:
        table = nodes.table()
        group = nodes.tgroup(cols=2)
        table += group
        group += [nodes.colspec(colwidth=25), nodes.colspec(colwidth=75)]
        head, body = nodes.thead(), nodes.tbody()
        group += [head, body]
        head += _row("request", "may be answered by")
        for request, names in replies():
            body += _row(request, names)
        return [table]


def _row(*cells: str) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        row += nodes.entry("", nodes.paragraph(text=cell))
    return row


class ExportedAgain(SphinxDirective):
    """Links to names that a package exports and another page documents."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(self.arguments[0])
        named = [name for name in self.content if name.strip()]
        missing = [name for name in named if name not in module.__all__]
        if missing:
            raise self.error(f"{module.__name__} doesn't export {', '.join(missing)}")
        links = ", ".join(f"{{py:obj}}`{name} <{module.__name__}.{name}>`" for name in named)
        container = nodes.paragraph()
        self.state.nested_parse(StringList([links], "names"), self.content_offset, container)
        return list(container.children)


class Unreleased(SphinxDirective):
    """The fragments in ``changelog.d``, which the next release will contain."""

    def run(self) -> list[nodes.Node]:
        command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "Unreleased"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise self.error(f"towncrier: {done.stderr}")
        # The title contains the date; and a directive can't contain headings.
        lines = [line for line in done.stdout.splitlines() if not line.startswith("## ")]
        lines = [f"**{line[4:]}**" if line.startswith("### ") else line for line in lines]
        container = nodes.container()
        self.state.nested_parse(StringList(lines, "changelog.d"), self.content_offset, container)
        return [container]


def setup(app: Sphinx) -> None:
    """Register the directives."""
    app.add_directive("state-diagram", StateDiagram)
    app.add_directive("replies-table", RepliesTable)
    app.add_directive("exported-again", ExportedAgain)
    app.add_directive("unreleased", Unreleased)
