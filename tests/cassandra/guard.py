"""Ends the nodes of a launcher that is gone, however it went.

The launcher starts this as a process of its own session and writes ``+pid`` and ``-pid`` lines to
its standard input. That pipe closes when the launcher closes it, is killed, or is taken down by a
test timeout: then every process group still listed is killed and the cluster's folder removed. No
signal handler and no exit hook can promise as much.
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
