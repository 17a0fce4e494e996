"""Names for annotations in tests; the fixtures are in fixtures.py, loaded by tests/conftest.py."""

from __future__ import annotations

from tests.cassandra.launcher import Cluster, Node

__all__ = ["Cluster", "Node"]
