"""What README shows runs, and its commands exist."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cqlproto_anyio as cql
from tests.test_project import python_blocks

if TYPE_CHECKING:
    from tests.cassandra.conftest import Node

ROOT = Path(__file__).parent.parent


@pytest.mark.cassandra
def test_the_example_runs(
    cassandra: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands, but for where the server listens."""
    elsewhere = functools.partial(cql.connect, port=cassandra.port)
    monkeypatch.setattr(cql, "connect", lambda host: elsewhere(cassandra.host))
    blocks = python_blocks(ROOT / "README.md")
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
        assert re.fullmatch(r"\d+\.\d+\.\S+\n", capsys.readouterr().out)


def test_the_commands_and_links_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = re.findall(r"^    make ([a-z]+)", text, re.MULTILINE)
    assert commands == ["demo", "test"]
    assert targets.issuperset(commands)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (ROOT / link).exists(), link
