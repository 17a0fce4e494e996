"""Nodes of the launcher end with the launcher, hang while paused, and keep their data."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cassandra import guard, java
from tests.cassandra.__main__ import main
from tests.cassandra.blocking import BlockingConnection, ErrorReply
from tests.cassandra.java import LauncherError
from tests.cassandra.launcher import Cluster, Node, Options
from tests.cassandra.ports import free_port

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


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on PATH and no jars; returns the only folder of its PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(java, "CACHE", tmp_path / "jars")
    monkeypatch.setattr(java, "JDK11", tmp_path / "jdk11")
    return folder


def add_java(folder: Path, version: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "java").write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    (folder / "java").chmod(0o755)


JDK = "install it and Maven (Debian: apt install openjdk-{0}-jdk-headless maven), and set {1} to it"
JDK_17, JDK_11 = JDK.format(17, "JAVA_HOME"), JDK.format(11, "JAVA11_HOME")
MAVEN = "no mvn to fetch Cassandra's jars with: install Maven (Debian: apt install maven)"


def test_what_a_machine_lacks_is_named(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert java.missing("5.0.5") == f"no JDK 17 (no java on PATH): {JDK_17}"
    assert java.missing("4.1.10") == f"no JDK 11 (no java on PATH): {JDK_11}"
    add_java(machine, "25.0.1")
    assert java.missing("5.0.5") == f"no JDK 17 (java on PATH is Java 25): {JDK_17}"
    home = machine.parent / "jdk-21"
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert java.missing("5.0.5") == f"no JDK 17 (JAVA_HOME={home} has no bin/java): {JDK_17}"
    add_java(home / "bin", "21")
    assert java.missing("5.0.5") == f"no JDK 17 (JAVA_HOME={home} is Java 21): {JDK_17}"
    newer = machine.parent / "jdk-17"
    add_java(newer / "bin", "17.0.16")
    monkeypatch.setenv("JAVA_HOME", str(newer))
    assert java.missing("5.0.5") == MAVEN
    (machine / "mvn").touch(mode=0o755)
    assert java.missing("5.0.5") is None


def test_jars_that_are_here_need_no_maven(machine: Path) -> None:
    add_java(machine, "17.0.16")
    (machine.parent / "jars" / "5.0.5").mkdir(parents=True)
    (machine.parent / "jars" / "5.0.5" / ".complete").touch()
    assert java.missing("5.0.5") is None


@pytest.mark.parametrize("command", [["run", "true"], ["start", "nodes"], ["check"]])
def test_the_commands_print_what_is_missing(
    command: list[str],
    machine: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(machine.parent)
    monkeypatch.setattr(sys, "argv", ["tests.cassandra", *command])
    for reason in (f"no JDK 17 (no java on PATH): {JDK_17}", MAVEN):
        assert main() == 1
        said = capsys.readouterr().err
        assert said.startswith(reason)
        assert said.removeprefix(reason) in (
            "\n",
            "; or set CQLPROTO_HOSTS to the hosts of a cluster that runs\n",
        )
        add_java(machine, "17.0.16")


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(LauncherError, match="has other files: name a new folder"):
        Cluster(Options(), tmp_path).start()
    assert (tmp_path / "letter.txt").exists()


@pytest.mark.parametrize("address", ["127.0.0.1", ""])
def test_a_port_that_is_in_use_is_named(tmp_path: Path, address: str) -> None:
    port = free_port(["127.0.0.1"])
    with (
        socket.create_server((address, port)),
        pytest.raises(LauncherError, match=rf"127\.0\.0\.1:{port} is in use: pass another port"),
    ):
        Cluster(Options(port=port), tmp_path / "nodes").start()
    assert not (tmp_path / "nodes").exists()


def test_a_cluster_that_runs_is_not_removed(tmp_path: Path) -> None:
    cluster = Cluster(Options(), tmp_path / "nodes")
    (cluster.folder / "node1").mkdir(parents=True)
    (cluster.folder / "options.json").touch()
    conf = f"{cluster.folder}/node1/conf:"
    node = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", conf])
    try:
        (cluster.folder / "node1" / "pid").write_text(str(node.pid))
        with pytest.raises(LauncherError, match="a cluster runs in .*: stop it first"):
            cluster.start()
    finally:
        node.kill()
        node.wait()
    assert (cluster.folder / "options.json").exists()
