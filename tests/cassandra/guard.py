"""Kills the nodes of a launcher after the launcher ended, in whatever way.

The launcher starts this process in a new session and writes ``+pid`` and ``-pid`` lines to its
standard input. The pipe closes when the launcher closes it, is killed, or is ended by a test
timeout. Then this process kills the listed process groups and removes the cluster's folder. Signal
handlers and exit hooks of the launcher could not do this after SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys


def main() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
