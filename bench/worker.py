"""One measurement in a process of its own.

`python -m bench.worker JOB` prints the outcome as one line of JSON.
A fresh process means that event loops, caches and memory of one client never meet those of another.
An error is printed with its traceback, and its last line says what it was, even out of a task
group.
"""

from __future__ import annotations

import importlib
import sys
import traceback

from bench.jobs import Job

MODULES = {
    "cqlproto": "bench.clients.ours",
    "acsylla": "bench.clients.acsylla_peer",
    "cassandra-driver": "bench.clients.datastax_peer",
    "bare": "bench.clients.bare",
}


def main() -> int:
    job = Job.from_json(sys.argv[1])
    try:
        module = importlib.import_module(MODULES[job.client.split("/")[0]])
        outcome = module.run(job)
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        traceback.print_exception(cause)
        return 1
    print(outcome.to_json())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
