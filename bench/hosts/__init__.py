"""A large cluster: the time until a session is ready, its memory, and the cost of a query plan.

One process simulates all nodes (server.py). Each measurement of a client is a new process
(work.py). part.py runs the measurements in turns.
"""

from __future__ import annotations

from bench.hosts.part import gates, markdown, measure

__all__ = ["gates", "markdown", "measure"]
