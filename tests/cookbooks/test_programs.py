"""Every program of the guides runs on a real node, and its results are right."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.test_pattern_code.conftest import keyspace

if TYPE_CHECKING:
    from tests.cassandra.conftest import Node

__all__ = ["keyspace"]

pytestmark = pytest.mark.cassandra

HERE = Path(__file__).parent


def programs(guide: str) -> list[str]:
    found = sorted(path.stem for path in (HERE / guide).glob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("program", programs("rsylla"))
async def test_rsylla(program: str, cassandra: Node, keyspace: str) -> None:
    module = import_module(f"tests.cookbooks.rsylla.{program}")
    await module.main(f"{cassandra.host}:{cassandra.port}", keyspace)


@pytest.mark.parametrize("program", programs("kailash"))
async def test_kailash(program: str, cassandra: Node, keyspace: str) -> None:
    module = import_module(f"tests.cookbooks.kailash.{program}")
    await module.main(cassandra.host, cassandra.port, keyspace)
