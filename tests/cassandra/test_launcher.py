"""Nodes of the launcher end with the launcher, hang while paused, and keep their data."""

from __future__ import annotations

import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cassandra import guard
from tests.cassandra.blocking import BlockingConnection, ErrorReply
from tests.cassandra.java import LauncherError
from tests.cassandra.launcher import Node

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_left_running_ends_when_the_launcher_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    folder.mkdir()
    node = subprocess.Popen(["sleep", "60"], start_new_session=True)
    ended = subprocess.Popen(["sleep", "60"], start_new_session=True)
    watching = subprocess.Popen(
        [sys.executable, guard.__file__, folder], stdin=subprocess.PIPE, text=True
    )
    try:
        # Closing the pipe is what the death of a launcher does.
        watching.communicate(f"+{node.pid}\n+{ended.pid}\n-{ended.pid}\n", timeout=10)
        assert node.wait(timeout=10) == -9
        assert ended.poll() is None
        assert not folder.exists()
    finally:
        for process in (node, ended, watching):
            process.kill()
            process.wait()


def test_a_node_is_paused_killed_and_started_again(spare_cassandra: Node) -> None:
    node = spare_cassandra
    node.cql(
        "CREATE KEYSPACE kept WITH replication"
        " = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE kept.rows (id int PRIMARY KEY)",
    )
    with pytest.raises(ErrorReply, match="disabled"):
        node.cql(
            "CREATE MATERIALIZED VIEW kept.seen AS SELECT id FROM kept.rows"
            " WHERE id IS NOT NULL PRIMARY KEY (id)"
        )
    node.pause()
    with pytest.raises(TimeoutError):
        node.connect(timeout=0.5)
    node.resume()
    node.connect().close()
    node.kill()
    with pytest.raises(ConnectionRefusedError):
        node.connect()
    node.up()
    node.cql("SELECT id FROM kept.rows")


def test_a_secure_node_wants_a_certificate_and_a_password(secure_cassandra: Node) -> None:
    node = secure_cassandra
    with node.connect() as connection:
        connection.query("LIST ROLES")
    tls = node.tls_context()
    with pytest.raises(ErrorReply) as refused:
        BlockingConnection(node.host, node.port, tls=tls, login=("cassandra", "wrong"))
    assert refused.value.code == 0x0100
    with pytest.raises(OSError):
        BlockingConnection(node.host, node.port, login=("cassandra", "cassandra"), timeout=5)
    anonymous = ssl.create_default_context(cafile=node.ca_path)
    with pytest.raises(OSError):
        BlockingConnection(node.host, node.port, tls=anonymous, login=("cassandra", "cassandra"))


def test_a_server_that_was_not_started_here_cannot_be_killed() -> None:
    with pytest.raises(LauncherError, match="not started from here"):
        Node("127.0.0.1", 9042).kill()
