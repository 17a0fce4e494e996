"""The process that fuzzes one target: ``python -m fuzz.worker TARGET ..``, started by the runner.

Only this module needs Atheris. Atheris instruments the packages while they are imported, so that
libFuzzer sees which branches an input takes. No other module may import the packages before.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz.targets import Target

__all__ = ["main"]

# Limits of address space and resident memory. Inputs are below a kilobyte, so an allocation beyond
# the limits is a finding; it fails at once instead of exhausting the machine's memory.
MOST_MEMORY = 2 << 30
MOST_RESIDENT_MIB = 1024
# Time limit for one input; most take a few hundred microseconds.
MOST_SECONDS = 10
# One mutation in UNREPAIRED is not repaired.
UNREPAIRED = 4


def _write_seeds(target: Target, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (folder / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)


def _write_words(target: Target, path: Path) -> None:
    """Write the target's words in libFuzzer's dictionary format."""
    lines = ["".join(f"\\x{byte:02x}" for byte in word) for word in target.words]
    path.write_text("".join(f'"{line}"\n' for line in lines))


def main(arguments: list[str]) -> None:
    """Fuzz until the time is over or the number of runs is reached; libFuzzer ends the process."""
    parser = argparse.ArgumentParser(prog="fuzz.worker")
    parser.add_argument("target")
    parser.add_argument("folder", type=Path, help="for the corpus and the findings")
    parser.add_argument("--until", type=float, help="when to end, in seconds since 1970")
    parser.add_argument("--runs", type=int)
    options = parser.parse_args(arguments)
    import atheris

    with atheris.instrument_imports(include=["cqlproto", "cqlproto_anyio"]):
        from fuzz.targets import TARGETS
    target = TARGETS[options.target]
    folder: Path = options.folder
    for name in ("corpus", "findings"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _write_seeds(target, folder / "seeds")
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    flags = [
        f"-artifact_prefix={folder / 'findings'}/",
        f"-max_len={target.longest}",
        f"-rss_limit_mb={MOST_RESIDENT_MIB}",
        f"-timeout={MOST_SECONDS}",
        "-print_final_stats=1",
    ]
    if target.words:
        _write_words(target, folder / "words")
        flags.append(f"-dict={folder / 'words'}")
    if options.runs is not None:
        flags.append(f"-runs={options.runs}")
    if options.until is not None:
        flags.append(f"-max_total_time={max(1, int(options.until - time.time()))}")
    mutator = {} if target.repair is None else {"custom_mutator": _mutator(target.repair)}
    # libFuzzer adds new inputs to the first folder.
    atheris.Setup(
        [sys.argv[0], *flags, str(folder / "corpus"), str(folder / "seeds")], target.run, **mutator
    )
    atheris.Fuzz()


def _mutator(repair: Callable[[bytes], bytes]) -> Callable[[bytes, int, int], bytes]:
    """Return libFuzzer's custom mutator: its own mutation, then the repair for most inputs."""
    import atheris

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        mutated: bytes = atheris.Mutate(data, most)
        return repair(mutated)[:most] if seed % UNREPAIRED else mutated

    return mutate


if __name__ == "__main__":
    main(sys.argv[1:])
