"""The names that tests annotate with; the fixtures are in fixtures.py, loaded for all of tests/."""

from __future__ import annotations

from tests.cassandra.launcher import Cluster, Node

__all__ = ["Cluster", "Node"]
