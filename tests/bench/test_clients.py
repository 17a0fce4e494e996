"""Every adapter that can run here does every kind of work once; the command runs a tiny plan."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from bench import jobs, live, parts, replayed, report, rounds
from bench.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cassandra.conftest import Node

CLIENTS = [
    client
    for client in (*live.CLIENTS, replayed.TUPLES)
    if all(map(parts.installed, client.split("/")))
]
ROWS = 2_000
PARTS = ["live", "stream", "memory", "import"]
if shutil.which("cargo"):
    PARTS[:0] = ["canned", "bulk"]


@pytest.fixture(scope="module")
def tables(cassandra: Node) -> Iterator[tuple[str, int]]:
    """Create the benchmark's tables in a keyspace of their own; yield the server's address."""
    address = (cassandra.host, cassandra.port)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CQLPROTO_BENCH_KEYSPACE", f"bench_{uuid.uuid4().hex[:8]}")
        with contextlib.closing(rounds.Worker("admin", address)) as admin:
            admin.measure(Job("admin", "setup", *address))
            admin.measure(Job("admin", "load", *address, operations=ROWS))
            yield address
            admin.measure(Job("admin", "drop", *address))


@pytest.mark.parametrize("client", CLIENTS)
def test_client_does_all_work(client: str, tables: tuple[str, int]) -> None:
    works: tuple[jobs.Work, ...] = ("write", "read", "mixed", "scan", "stream", "list", "bulk")
    with contextlib.closing(rounds.Worker(client, tables)) as worker:
        for work in works:
            count = {"scan": 1, "stream": ROWS, "list": ROWS}.get(work, 300)
            given = Job(client, work, *tables, operations=count, in_flight=16, timed=True)
            found = worker.measure(given)
            assert found.operations == count
            assert found.count == (jobs.ITEM_ROWS if work == "scan" else count)
            assert found.seconds > 0
            assert found.memory_peak > 0
            assert found.protocol in ("v4", "v5")
            if work in ("write", "read", "mixed"):
                assert found.p50 is not None
                assert found.p50 < found.seconds * 1e6
        alone = worker.measure(Job(client, "read", *tables, operations=20, in_flight=1, timed=True))
        assert alone.p50 is not None
        assert alone.count == 20


@pytest.mark.timeout(300)  # the canned server may have to be compiled
def test_command_measures_and_writes_the_page(cassandra: Node, tmp_path: Path) -> None:
    variables = {
        **os.environ,
        "CQLPROTO_HOSTS": cassandra.address,
        "CQLPROTO_BENCH_KEYSPACE": f"bench_{uuid.uuid4().hex[:8]}",
    }
    (tmp_path / "performance.json").write_text(
        json.dumps({"parts": {"memory": {"data": "old"}, "kept": {"data": "old"}}})
    )
    options = ["--rounds=1", "--seconds=0.02", f"--stream-rows={ROWS}", f"--output={tmp_path}"]
    clients = ["cqlproto/asyncio", "cqlproto/asyncio/v4", "bare/asyncio", "cqlproto"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", *options]
        + ["--only", *PARTS, "--clients", *clients],
        cwd=rounds.ROOT,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PROBLEM" not in done.stdout
    results = json.loads((tmp_path / "performance.json").read_text())
    assert set(results["parts"]) == {*PARTS, "kept"}
    assert results["parts"].pop("kept") == {"data": "old"}
    assert results["cassandra"][0].isdigit()
    for part in PARTS:
        assert results["parts"][part]["about"]["rounds"] == 1
    assert len(results["parts"]["live"]["data"]["samples"]) == 2 * 13
    page = (tmp_path / "performance.md").read_text()
    assert page == report.markdown(results)
    assert "| cqlproto/asyncio/v4 |" in page


def test_missing_server_is_a_problem_not_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--only", "memory"],
        cwd=rounds.ROOT,
        env={**os.environ, "CQLPROTO_HOSTS": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.startswith("bench: ")
    assert "Traceback" not in done.stderr
