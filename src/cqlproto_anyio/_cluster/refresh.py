"""Reading the topology over the control connection: hosts, keyspaces, and notes on bad rows.

A node that leaves out a table, or part of a row, changes nothing about what it leaves out: what was
known before stays. A session works with the contact point alone if need be.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from cqlproto_anyio._cluster.log import log
from cqlproto_anyio._metadata.discovery import (
    Addresses,
    HostReader,
    host_at,
    with_hosts,
    with_keyspaces,
)
from cqlproto_anyio._metadata.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cqlproto.wire import IPAddress
    from cqlproto_anyio._cluster.system_tables import SystemTables
    from cqlproto_anyio._metadata.discovery import Address, Found
    from cqlproto_anyio.endpoint import Endpoint

__all__ = ["NoteLog", "Reading", "TopologyReader"]

# How many notes are remembered so that they aren't logged again, and how many are logged at a time.
MOST_NOTED = 1000
MOST_LOGGED = 50


class Reading:
    """What one reading of the system tables gave.

    Attributes:
        found: the hosts, or None if no table was read.
        keyspaces: the keyspaces' replication options by name.
        notes: what could not be read, and why.
    """

    __slots__ = ("found", "keyspaces", "notes")

    def __init__(self) -> None:
        self.found: Found | None = None
        self.keyspaces: Mapping[str, Mapping[str, str]] = {}
        self.notes: list[str] = []


class TopologyReader:
    """Reads the system tables and keeps the topology that follows from them.

    Arguments:
        translate: ``Config.translate``.
        names: returns the contact points' names by address; certificates are checked against them.

    Attributes:
        topology: the cluster as of the last reading.
    """

    def __init__(
        self,
        translate: Callable[[Endpoint], Endpoint] | None,
        names: Callable[[], Mapping[Address, str]],
    ) -> None:
        self.topology = Topology((), {})
        self._translate = translate
        self._names = names
        self._addresses = Addresses({})

    def find(self, ip: IPAddress, port: int) -> Endpoint | None:
        """Return the endpoint of the host that an event names, or None if no host has it."""
        return self._addresses.find(ip, port)

    async def read(self, tables: SystemTables) -> Reading:
        """Read hosts and keyspaces; raises what :meth:`SystemTables.cluster` does."""
        lenient = not tables.describes_itself
        reading = Reading()
        found, reading.keyspaces, notes = await tables.cluster(
            lambda local: HostReader(
                local,
                contact=tables.connection.endpoint,
                translate=self._translate,
                names=self._names(),
                known=self.topology.hosts,
                lenient=lenient,
            )
        )
        reading.found = found
        reading.notes = [*notes, *found.notes]
        return reading

    def update(self, tables: SystemTables, reading: Reading) -> bool:
        """Set :attr:`topology` to what was read.

        Arguments:
            tables: what it was read from.
            reading: what was read.

        Returns:
            whether the topology has changed.
        """
        topology = self._with_hosts(tables, reading.found)
        if reading.found is not None and "keyspaces" not in tables.unread:
            topology = with_keyspaces(topology, reading.keyspaces)
        return self._replace(topology)

    def update_keyspaces(self, keyspaces: Mapping[str, Mapping[str, str]]) -> bool:
        """Set the keyspaces of :attr:`topology`; return whether it has changed."""
        return self._replace(with_keyspaces(self.topology, keyspaces))

    def _replace(self, topology: Topology) -> bool:
        changed = topology is not self.topology
        self.topology = topology
        return changed

    def _with_hosts(self, tables: SystemTables, found: Found | None) -> Topology:
        """Return the topology with the hosts that were found.

        Where a table could not be read, hosts that are known from before stay.
        """
        topology = self.topology
        if found is None:
            if topology.hosts:
                return topology
            return Topology([host_at(tables.connection.endpoint)], {})
        others = []
        if tables.unread & {"local", "peers"}:
            ids = {host.host_id for host in found.hosts}
            endpoints = {host.endpoint for host in found.hosts}
            others = [
                host
                for host in topology.hosts.values()
                if host.host_id not in ids and host.endpoint not in endpoints
            ]
            found = replace(found, hosts=(*found.hosts, *others))
        if not others:
            self._addresses = found.addresses
        return with_hosts(topology, found)


class NoteLog:
    """Logs what is wrong with the rows of the system tables, each note once."""

    def __init__(self) -> None:
        self._noted: set[str] = set()

    def log(self, notes: Sequence[str]) -> bool:
        """Log those of the notes that are new; return whether there are any."""
        new = [note for note in dict.fromkeys(notes) if note not in self._noted]
        for note in new[:MOST_LOGGED]:
            log(logging.WARNING, note)
        if len(new) > MOST_LOGGED:
            log(logging.WARNING, f"and {len(new) - MOST_LOGGED} more such notes on hosts")
        if len(self._noted) > MOST_NOTED:
            self._noted.clear()
        self._noted.update(notes)
        return bool(new)
