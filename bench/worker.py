"""The process that measures one client.

`python -m bench.worker CLIENT HOST PORT` connects, and then answers each line of standard input (a
`Job`) with one line on standard output (an `Outcome`). Each client has its own process, so that
event loops, caches and memory of one don't affect another. The process lives between turns, so that
a turn doesn't include connecting and importing. It ends with its standard input, or after an error,
with a traceback whose last line names the error, also for errors from task groups.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings
from typing import TextIO

from bench.jobs import Job, Outcome

MODULES = {
    "cqlproto": "clients.ours",
    "admin": "clients.admin",
    "bare": "clients.bare",
    "acsylla": "clients.acsylla_peer",
    "cassandra-driver": "clients.datastax_peer",
    "scylla-driver": "clients.datastax_peer",
    "rsylla": "clients.rsylla_peer",
    "scyllapy": "clients.scyllapy_peer",
    "coodie": "clients.coodie_peer",
    "recipes": "patterns.worker",
    "naive": "patterns.worker",
}


# The C code of some peers prints to standard output; redirect this to standard error.
_replies: TextIO | None = None


def receive() -> Job | None:
    """Return the next job, or None at the end of the input."""
    line = sys.stdin.readline()
    return Job.from_json(line) if line.strip() else None


def reply(outcome: Outcome) -> None:
    print(outcome.to_json(), file=_replies, flush=True)


def main() -> int:
    global _replies
    _replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Ignore warnings, such as deprecations within the peers' code.
    warnings.simplefilter("ignore")
    client, host, port = sys.argv[1:]
    try:
        module = importlib.import_module(f"bench.{MODULES[client.split('/')[0]]}")
        module.serve(client, host, int(port))
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        traceback.print_exception(cause)
        return 1
    return 0


if __name__ == "__main__":
    # Import this module under its name, as the adapters do, so that there is one stream of replies.
    raise SystemExit(importlib.import_module("bench.worker").main())
