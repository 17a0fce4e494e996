"""The suite of test_lines.py on one release of every line: ``python -m tests.cassandra.matrix``.

Arguments name the releases to run. Prints a table; the exit status is 1 if a release failed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.cassandra.lines import LINES, highest_version, java_version

if TYPE_CHECKING:
    from collections.abc import Sequence

_SUITE = "tests/cassandra/test_lines.py"


def run(release: str) -> tuple[str, bool]:
    """Run the suite on a release; return pytest's last line, and whether all passed."""
    environment = os.environ | {"CQLPROTO_LINE": release, "CQLPROTO_REQUIRE_CASSANDRA": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", _SUITE],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout.strip().splitlines() or ["nothing"]
    if done.returncode:
        sys.stderr.write("\n".join(said[-60:]) + f"\n{done.stderr[-2000:]}\n")
    return re.sub(r" in [\d.]+s.*", "", said[-1].strip("= ")), done.returncode == 0


def main(releases: Sequence[str]) -> int:
    """Run all releases that are named, or one of every line."""
    sys.stdout.write("| Cassandra | protocol | JDK | result |\n| --- | --- | --- | --- |\n")
    failed = False
    for release in releases or LINES:
        result, passed = run(release)
        failed = failed or not passed
        row = f"| {release} | v{highest_version(release)} | {java_version(release)} | {result} |"
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
