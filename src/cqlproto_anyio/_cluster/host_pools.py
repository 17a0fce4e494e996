"""The pools of a session, one for each host in use, and how they follow the topology."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from cqlproto_anyio._metadata.discovery import generated_id
from cqlproto_anyio._metadata.topology import Topology
from cqlproto_anyio.exceptions import ConfigError, NoHostAvailable
from cqlproto_anyio.policies.checked import CheckedFilter
from cqlproto_anyio.policies.routing import distance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from cqlproto_anyio._metadata.topology import Host
    from cqlproto_anyio._network.pool import Pool
    from cqlproto_anyio.endpoint import Endpoint
    from cqlproto_anyio.exceptions import SessionClosed
    from cqlproto_anyio.hooks import Active
    from cqlproto_anyio.policies.routing import Routing

__all__ = ["HostPools"]


class HostPools:
    """The hosts in use and their pools.

    Arguments:
        routing: which hosts are used.
        local_dc: the local data centre, or None while it isn't known.
        tell: the hooks, called for hosts that are added and removed.

    Attributes:
        by_id: the pools by host id.
        topology: the cluster as it was last read.
        routing: as given; what the user's host filter raises is caught.
        local_dc: as given, until it is set.
    """

    def __init__(self, routing: Routing, local_dc: str | None, tell: Active) -> None:
        self.by_id: dict[UUID, Pool] = {}
        self.topology = Topology([], {})
        self.local_dc = local_dc
        self._filter: CheckedFilter | None = None
        if routing.host_filter is not None:
            self._filter = CheckedFilter(routing.host_filter)
            routing = replace(routing, host_filter=self._filter)
        self.routing = routing
        self._tell = tell
        self._by_endpoint: dict[Endpoint, list[Pool]] = {}
        self._draining: set[Pool] = set()

    # -- the topology

    def update(
        self, topology: Topology, make: Callable[[Host], Pool]
    ) -> tuple[list[Pool], set[UUID]]:
        """Add and remove pools to match the topology. Removed pools finish their requests.

        Arguments:
            topology: the cluster from now on.
            make: makes a pool for a new host.

        Returns:
            the pools that were added, in random order, so that clients that fail over don't all
            use the same hosts; the ids of the hosts that were removed.
        """
        self.topology = topology
        used = {
            host_id: host
            for host_id, host in topology.hosts.items()
            if distance(host, self.routing, self.local_dc) != "ignored"
        }
        self._replace_generated_ids(used)
        removed = self._remove(used)
        added = []
        for host_id, host in random.sample(list(used.items()), len(used)):
            if host_id not in self.by_id:
                pool = self.by_id[host_id] = make(host)
                added.append(pool)
                if (tell := self._tell.host_added) is not None:
                    tell(pool.record())
        self._by_endpoint = {}
        for pool in self.by_id.values():
            self._by_endpoint.setdefault(pool.host.endpoint, []).append(pool)
        return added, removed

    def _replace_generated_ids(self, used: dict[UUID, Host]) -> None:
        """Keep the pools of hosts whose id was generated and is known now."""
        for old_id, pool in list(self.by_id.items()):
            endpoint = pool.host.endpoint
            if old_id in used or old_id != generated_id(endpoint):
                continue
            for host_id, host in used.items():
                if host.endpoint == endpoint and host_id not in self.by_id:
                    del self.by_id[old_id]
                    self.by_id[host_id] = pool
                    break

    def _remove(self, used: dict[UUID, Host]) -> set[UUID]:
        """Drain the pools of hosts that have left, or have another address now."""
        removed: set[UUID] = set()
        for host_id, pool in list(self.by_id.items()):
            host = used.get(host_id)
            if host is not None and host.endpoint == pool.host.endpoint:
                pool.host = host
                continue
            del self.by_id[host_id]
            pool.drain()
            removed.add(host_id)
            if pool.all:
                self._draining.add(pool)
            if (tell := self._tell.host_removed) is not None:
                tell(pool.record())
        return removed

    def clear(self) -> None:
        """Forget all pools, and leave their sockets alone."""
        self.by_id = {}
        self._by_endpoint = {}
        self._draining = set()

    # -- looking up

    @property
    def all(self) -> tuple[Pool, ...]:
        """All pools, with those of removed hosts where requests are under way."""
        return (*self.by_id.values(), *self._draining)

    def close_idle(self, error: SessionClosed) -> bool:
        """Close connections that are out of service and have no requests; return whether some still
        have."""
        left = [pool.close_idle(error) for pool in self.all]
        self._draining = {pool for pool in self._draining if pool.all}
        return any(left)

    def at(self, endpoint: Endpoint) -> Sequence[Pool]:
        """Return the pools of the hosts at this endpoint."""
        return self._by_endpoint.get(endpoint, ())

    def by_distance(self) -> list[list[Pool]]:
        """Return the pools that a request may use, by data centre, nearest first."""
        near: list[Pool] = []
        far: dict[str | None, list[Pool]] = {n: [] for n in self.routing.remote_datacenters}
        far.pop(self.local_dc, None)
        for pool in self.by_id.values():
            far.get(pool.host.datacenter, near).append(pool)
        return [near, *far.values()]

    def unusable(self) -> BaseException:
        """Return the error for a request when no host can be connected to."""
        if not self.by_id:
            failure = None if self._filter is None else self._filter.failure
            why = "" if failure is None else f": its host_filter raised {failure}"
            return ConfigError(
                f"Config.routing leaves none of {len(self.topology.hosts)} hosts{why}"
            )
        failures = self.failures
        if len(failures) == 1 and len(self.by_id) == 1:
            return failures[0]
        return NoHostAvailable(failures)

    @property
    def failures(self) -> list[BaseException]:
        """Why the last attempts to connect have failed, for each host where the last one has."""
        errors = [pool.state.error for pool in self.by_id.values()]
        return [error for error in errors if error is not None]
