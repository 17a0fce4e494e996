"""The recipes: rates and round trips, alone and contended, beside naive versions; memory.

`recipes/asyncio` and `recipes/trio` use the recipes (ours.py); `naive/rsylla` does what cookbooks
do (naive.py): look first, then act. Both are judged by the same checks (work.py), so a naive
version that is faster and wrong shows as both. worker.py is a client's process.
"""

from __future__ import annotations

from bench.patterns.part import gates, markdown, measure

__all__ = ["gates", "markdown", "measure"]
