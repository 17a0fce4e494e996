"""Differences between the lines of Cassandra: Java, settings, jars, protocol version.

A line is a release's first two numbers, such as ``(3, 11)``. Every line from 2.1 on starts from
Maven's jars: those before 5.0 on JDK 11, later ones on JDK 17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["LINES", "artifacts", "highest_version", "java_version", "line_of", "settings"]

Line: TypeAlias = tuple[int, int]

# One release of each line; the newest of 5.0 beside the one that the other tests run on.
LINES = (
    "2.1.22", "2.2.19", "3.0.29", "3.11.19", "4.0.19", "4.1.10", "5.0.5", "5.0.9", "6.0-alpha2",
)  # fmt: skip


def line_of(release: str) -> Line:
    """Return the line of a release such as "4.1.10" or "6.0-alpha2"."""
    numbers = release.partition("-")[0].split(".")
    return int(numbers[0]), int(numbers[1])


def java_version(release: str) -> int:
    """Return the major version of the JDK that a release runs on here."""
    return 17 if line_of(release) >= (5, 0) else 11


def highest_version(release: str) -> int:
    """Return the highest protocol version of a release that isn't a beta."""
    line = line_of(release)
    return 3 if line < (2, 2) else 4 if line < (4, 0) else 5


def artifacts(release: str) -> tuple[str, ...]:
    """Return the Maven artifacts of a release, by artifact id."""
    return (
        ("cassandra-all", "cassandra-thrift") if line_of(release) < (4, 0) else ("cassandra-all",)
    )


def settings(release: str, data: Path, *, port: int, storage_port: int) -> Mapping[str, object]:
    """Return the settings of cassandra.yaml whose names or presence differ between lines.

    Arguments:
        release: of the node.
        data: the folder of its data.
        port: of CQL.
        storage_port: of the traffic between nodes.
    """
    line = line_of(release)
    found: dict[str, object] = {}
    if line >= (2, 2):
        found["role_manager"] = "CassandraRoleManager"
    if line >= (3, 0):
        found["hints_directory"] = str(data / "hints")
    if line >= (3, 8):
        found["cdc_raw_directory"] = str(data / "cdc")
    if line < (4, 0):
        # Thrift is off; its port must not be another node's.
        found |= {"start_rpc": False, "rpc_port": port + 1, "ssl_storage_port": storage_port + 1}
        found["start_native_transport"] = True
    if line >= (4, 1):
        found["commitlog_sync_period"] = "10000ms"
    else:
        found["commitlog_sync_period_in_ms"] = 10_000
    switches = {
        "materialized_views": line >= (4, 0),
        "user_defined_functions": line >= (2, 2),
        "sasi_indexes": line >= (4, 0),
    }
    shape = "{}_enabled" if line >= (4, 1) else "enable_{}"
    return found | {shape.format(name): True for name, known in switches.items() if known}
