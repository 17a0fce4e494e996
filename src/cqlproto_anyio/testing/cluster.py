"""A fault proxy for each node of a cluster.

A client discovers the nodes of a cluster at the addresses that the nodes have for each other. To
keep the client on the proxies, :meth:`ProxiedCluster.translate` translates these addresses, or
:meth:`ProxiedCluster.connector` opens the client's transports.
"""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from random import Random
from typing import TYPE_CHECKING

import anyio

from cqlproto_anyio._settings.arguments import parse_endpoint
from cqlproto_anyio.endpoint import Endpoint
from cqlproto_anyio.exceptions import ConfigError
from cqlproto_anyio.testing.proxy import FaultProxy
from cqlproto_anyio.testing.relay import Statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from anyio.abc import ByteStream

    from cqlproto_anyio.config import Connector
    from cqlproto_anyio.testing.rules import Rule

__all__ = ["ProxiedCluster"]


class ProxiedCluster:
    """A :class:`FaultProxy` for each node; the proxies share one map of prepared statements.

    A rule that is added to the cluster applies to all proxies, and its counts are shared:
    ``times=1`` means once in the cluster. ``cluster["127.0.0.2"]`` is the proxy of one node.

    Arguments:
        nodes: all nodes, by the addresses that the cluster uses (``rpc_address``), each optionally
            with a port, or as endpoints.
        port: the port of nodes that are given without one.
        seed: the seed of the rules' random generators; None for a random one.
        listen: the IP address to listen on; None for no TCP listener, only :meth:`connector`.
        connector: opens the transports to the nodes, in place of TCP.

    Attributes:
        proxies: the proxies, in the order of the nodes. Each keeps its port until the block ends.
        seed: the seed in use; passing it again repeats the rules' random decisions.

    Raises:
        ConfigError: an argument is wrong (raised by the constructor).
        OSError: a proxy can't listen, or a name can't be resolved (raised on entering).
    """

    def __init__(
        self,
        nodes: Sequence[str | Endpoint],
        port: int = 9042,
        *,
        seed: int | None = None,
        listen: str | None = "127.0.0.1",
        connector: Connector | None = None,
    ) -> None:
        if isinstance(nodes, str) or not nodes:
            raise ConfigError(f"nodes must be a sequence of at least one node, got {nodes!r}")
        known = [
            node if isinstance(node, Endpoint) else parse_endpoint(node, port) for node in nodes
        ]
        self._places = {(node.address, node.port): index for index, node in enumerate(known)}
        if len(self._places) < len(known):
            raise ConfigError("nodes must differ: one is given twice")
        self.seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
        statements = Statements()
        self.proxies = tuple(
            FaultProxy(
                node,
                seed=self.seed + index,
                listen=listen,
                connector=connector,
                statements=statements,
            )
            for index, node in enumerate(known)
        )
        self._added = 0
        self._resolves = connector is None
        self._stack: AsyncExitStack | None = None

    def __repr__(self) -> str:
        nodes = ", ".join(str(proxy.node) for proxy in self.proxies)
        return f"<ProxiedCluster of {nodes}, seed={self.seed}>"

    def __getitem__(self, node: int | str | Endpoint) -> FaultProxy:
        """Return the proxy of a node.

        Arguments:
            node: the index of the node, its address (with the port, if nodes share the address),
                or its endpoint.

        Raises:
            LookupError: no proxy, or more than one, is for this node.
        """
        if isinstance(node, int):
            return self.proxies[node]
        if isinstance(node, str):
            of_address = [proxy for proxy in self.proxies if proxy.node.address == node]
            if len(of_address) == 1:
                return of_address[0]
            node = _endpoint(node)
        place = self._places.get((node.address, node.port))
        if place is None:
            raise LookupError(f"no proxy is for {node}: pass every node to ProxiedCluster")
        return self.proxies[place]

    @property
    def contact_points(self) -> list[str]:
        """The endpoints of the proxies, as ``connect`` takes them.

        Raises:
            UsageError: the proxies do not listen.
        """
        return [str(proxy.endpoint) for proxy in self.proxies]

    def translate(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint of a node's proxy, for ``Config(translate=cluster.translate)``.

        Arguments:
            endpoint: the endpoint of a node; the endpoint of a proxy is returned unchanged.

        Raises:
            LookupError: no proxy is for this endpoint. The client would bypass the proxies.
        """
        here = (endpoint.address, endpoint.port)
        if any(here == (proxy.host, proxy.port) for proxy in self.proxies):
            return endpoint
        found = self[endpoint].endpoint
        return Endpoint(found.address, found.port, endpoint.server_name)

    async def connector(self, endpoint: Endpoint) -> ByteStream:
        """Open a connection in memory to a node's proxy: ``Config(connector=cluster.connector)``.

        The client uses the endpoints of the nodes; no address translation is needed.

        Raises:
            ConnectionRefusedError: the proxy refuses connections, or no proxy is for this node.
        """
        try:
            proxy = self[endpoint]
        except LookupError as exc:
            raise ConnectionRefusedError(str(exc)) from None
        return await proxy.connector(endpoint)

    def add(self, rule: Rule) -> Rule:
        """Append a rule to all proxies, and return it.

        Raises:
            ConfigError: the rule was added before.
        """
        rule.random = Random(f"{self.seed}/cluster/{self._added}")
        self._added += 1
        for proxy in self.proxies:
            proxy._rules.add(rule, seeded=True)
        return rule

    def remove(self, rule: Rule) -> None:
        """Remove a rule from all proxies."""
        for proxy in self.proxies:
            proxy.remove(rule)

    def clear(self) -> None:
        """Remove all rules from all proxies."""
        for proxy in self.proxies:
            proxy.clear()

    def pause(self) -> None:
        """Pause all proxies."""
        for proxy in self.proxies:
            proxy.pause()

    def resume(self) -> None:
        """Resume all proxies."""
        for proxy in self.proxies:
            proxy.resume()

    def cut_all(self, *, reset: bool = False) -> int:
        """Close all connections of all proxies, and return their number."""
        return sum(proxy.cut_all(reset=reset) for proxy in self.proxies)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._resolves:
                await self._resolve()
            for proxy in self.proxies:
                await stack.enter_async_context(proxy)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._stack is not None
        await self._stack.__aexit__(kind, error, traceback)

    async def _resolve(self) -> None:
        """Resolve nodes that were given by name, so that their addresses find the proxy too."""
        for place, proxy in enumerate(self.proxies):
            node = proxy.node
            for found in await anyio.getaddrinfo(node.address, node.port):
                self._places.setdefault((found[4][0], node.port), place)


def _endpoint(name: str) -> Endpoint:
    try:
        return parse_endpoint(name, 9042)
    except ConfigError as exc:
        raise LookupError(str(exc)) from exc
