"""Hooks that keep what they are told about hosts and connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cqlproto_anyio as cql

if TYPE_CHECKING:
    from tests.support.fakehosts import FakeHost


class RecordedHooks(cql.Hooks):
    """Records of hosts, connections and the control connection, with short names of their hooks."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def host_added(self, record: cql.HostRecord) -> None:
        self.told.append(("added", record))

    def host_removed(self, record: cql.HostRecord) -> None:
        self.told.append(("removed", record))

    def host_up(self, record: cql.HostRecord) -> None:
        self.told.append(("up", record))

    def host_down(self, record: cql.HostRecord) -> None:
        self.told.append(("down", record))

    def connection_opened(self, record: cql.ConnectionRecord) -> None:
        self.told.append(("opened", record))

    def connection_lost(self, record: cql.ConnectionRecord) -> None:
        self.told.append(("lost", record))

    def control_moved(self, record: cql.ControlRecord) -> None:
        self.told.append(("control", record))

    @property
    def kinds(self) -> list[str]:
        """The names of all records, in order."""
        return [kind for kind, _ in self.told]

    def all(self, name: str, host: FakeHost | None = None) -> list[Any]:
        return [
            record
            for kind, record in self.told
            if kind == name and (host is None or record.endpoint == host.endpoint)
        ]

    def has(self, name: str, count: int) -> bool:
        return len(self.all(name)) == count

    def names(self, host: FakeHost) -> list[str]:
        """Return the events of a host, in order, except those of the control connection."""
        return [
            kind
            for kind, record in self.told
            if record.endpoint == host.endpoint and kind != "control"
        ]
