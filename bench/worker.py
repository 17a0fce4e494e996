"""A process that measures one client, job by job, for as long as it is sent jobs.

`python -m bench.worker CLIENT HOST PORT` connects, and then answers each line of standard input (a
`Job`) by one line on standard output (an `Outcome`). A process of its own means that event loops,
caches and memory of one client never meet those of another; that it stays alive between its turns
means that connecting and importing cost no turn. The end of its input ends it. An error ends it
too, after its traceback, whose last line says what it was, even out of a task group.
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
    "cqlproto": "ours",
    "admin": "admin",
    "bare": "bare",
    "acsylla": "acsylla_peer",
    "cassandra-driver": "datastax_peer",
    "scylla-driver": "datastax_peer",
    "rsylla": "rsylla_peer",
    "scyllapy": "scyllapy_peer",
    "coodie": "coodie_peer",
}


# Some peers' C code prints as it likes: what it prints goes to standard error.
_replies: TextIO | None = None


def receive() -> Job | None:
    """The next job; None at the end."""
    line = sys.stdin.readline()
    return Job.from_json(line) if line.strip() else None


def reply(outcome: Outcome) -> None:
    print(outcome.to_json(), file=_replies, flush=True)


def main() -> int:
    global _replies
    _replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Peers warn of what they deprecate among themselves; that is no answer to a job.
    warnings.simplefilter("ignore")
    client, host, port = sys.argv[1:]
    try:
        module = importlib.import_module(f"bench.clients.{MODULES[client.split('/')[0]]}")
        module.serve(client, host, int(port))
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        traceback.print_exception(cause)
        return 1
    return 0


if __name__ == "__main__":
    # Under its own name, as the adapters import it: there is one stream of replies.
    raise SystemExit(importlib.import_module("bench.worker").main())
