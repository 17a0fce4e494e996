"""A large cluster: how long a session takes to be ready, its memory, and what a query plan costs.

The cluster is one process that plays all the nodes (server.py); the client that is measured is
another one (work.py), new each time. part.py runs them in turns.
"""

from __future__ import annotations

from bench.hosts.part import gates, markdown, measure

__all__ = ["gates", "markdown", "measure"]
