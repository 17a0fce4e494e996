"""Runs one contender in its own process: ``python -m bench.codec.worker MODULE``.

The worker reads orders as lines of JSON and answers each with one line: first its version and kind,
then, for each case, the preparation (values checked, loops counted) and the samples. Contenders
need separate processes because three of them are called ``cassandra``. A worker lives for the whole
run, because starting a process takes longer than a sample.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import traceback
from typing import TYPE_CHECKING, Any

from bench.codec import shapes, tasks

if TYPE_CHECKING:
    from types import ModuleType

    from bench.codec.tasks import Task


class _Worker:
    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._case: object = None
        self._tasks: dict[str, Task] = {}

    def answer(self, order: dict[str, Any]) -> dict[str, object]:
        what = order["order"]
        if what == "about":
            about: dict[str, object] = self._module.about()
            return about
        if what == "prepare":
            return self._prepare(order["case"], order["variant"], order["seconds"])
        if what == "sample":
            return self._sample(order["variant"], order["loops"])
        raise ValueError(f"unknown order {what!r}")

    def _prepare(self, case: dict[str, Any], variant: str, seconds: float) -> dict[str, object]:
        if case != self._case:
            self._tasks.clear()
            self._case = case
        task = self._tasks[variant] = self._module.prepare(case, variant)
        return {"loops": tasks.loops_for(task, seconds)}

    def _sample(self, variant: str, loops: int) -> dict[str, object]:
        shapes.rows_of.cache_clear()
        task = self._tasks[variant]
        gc.collect()
        return {"microseconds": task.run(loops) / loops / task.units * 1e6}


def main() -> None:
    worker = _Worker(importlib.import_module(sys.argv[1]))
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
