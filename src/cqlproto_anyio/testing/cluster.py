"""A fault proxy for each node of a cluster, and the way to them.

A client finds the nodes of a cluster by itself, at the addresses that the nodes know of one
another. It stays on the proxies if it passes each address through a function, or opens its
transports by one; both are here.
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
    """A :class:`FaultProxy` for each node, with one map of prepared statements for all.

    A rule that is added here is obeyed by all proxies and counts for all of them: ``times=1`` is
    once in the cluster. What is done to one node is done to its proxy: ``cluster["127.0.0.2"]``.

    Arguments:
        nodes: all nodes, as the cluster itself names them (``rpc_address``), each with a port of
            its own if need be, or as endpoints.
        port: the port of those without one.
        seed: what chance is made of; None for another one each time.
        listen: the IP address to listen on; None for no TCP, only :meth:`connector`.
        connector: opens the transports to the nodes, in place of TCP.

    Attributes:
        proxies: in the order of the nodes. Each keeps its port for as long as the block.
        seed: with it, and what they are given, chance can be repeated.

    Raises:
        ConfigError: an argument is wrong (at once).
        OSError: a proxy can't listen, or a name can't be resolved (when entered).
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
            raise ConfigError(f"nodes is {nodes!r}: name each node, at least one")
        known = [
            node if isinstance(node, Endpoint) else parse_endpoint(node, port) for node in nodes
        ]
        self._places = {(node.address, node.port): index for index, node in enumerate(known)}
        if len(self._places) < len(known):
            raise ConfigError("a node is named twice")
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
        """Return a node's proxy.

        Arguments:
            node: its number, its address (with its port, if nodes share the address), or endpoint.

        Raises:
            LookupError: there is none, or several.
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
            raise LookupError(f"no proxy is for {node}")
        return self.proxies[place]

    @property
    def contact_points(self) -> list[str]:
        """Where the proxies listen, as ``connect`` takes it.

        Raises:
            UsageError: they don't listen.
        """
        return [str(proxy.endpoint) for proxy in self.proxies]

    def translate(self, endpoint: Endpoint) -> Endpoint:
        """Return where a node's proxy listens: the address translation of a client.

        Arguments:
            endpoint: a node's own, or one that is translated already, which stays as it is.

        Raises:
            LookupError: no proxy is for it: a client must not get around the proxies unnoticed.
        """
        here = (endpoint.address, endpoint.port)
        if any(here == (proxy.host, proxy.port) for proxy in self.proxies):
            return endpoint
        found = self[endpoint].endpoint
        return Endpoint(found.address, found.port, endpoint.server_name)

    async def connector(self, endpoint: Endpoint) -> ByteStream:
        """Open a connection in memory to a node's proxy: ``Config(connector=cluster.connector)``.

        The client connects to the nodes' own endpoints, so nothing need be translated.

        Raises:
            ConnectionRefusedError: the proxy refuses, or none is for this node.
        """
        try:
            proxy = self[endpoint]
        except LookupError as exc:
            raise ConnectionRefusedError(str(exc)) from None
        return await proxy.connector(endpoint)

    def add(self, rule: Rule) -> Rule:
        """Let all proxies obey a rule; return it.

        Raises:
            ConfigError: one of them obeys it already.
        """
        rule.random = Random(f"{self.seed}/cluster/{self._added}")
        self._added += 1
        for proxy in self.proxies:
            proxy._rules.add(rule, seeded=True)
        return rule

    def remove(self, rule: Rule) -> None:
        """Let no proxy obey a rule any longer."""
        for proxy in self.proxies:
            proxy.remove(rule)

    def clear(self) -> None:
        """Let no proxy obey any rule."""
        for proxy in self.proxies:
            proxy.clear()

    def pause(self) -> None:
        """Let all proxies relay nothing."""
        for proxy in self.proxies:
            proxy.pause()

    def resume(self) -> None:
        """Let all proxies relay again."""
        for proxy in self.proxies:
            proxy.resume()

    def cut_all(self, *, reset: bool = False) -> int:
        """Close all connections of all proxies, and return how many."""
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
        """Find the nodes by their addresses as well, where they were given by name."""
        for place, proxy in enumerate(self.proxies):
            node = proxy.node
            for found in await anyio.getaddrinfo(node.address, node.port):
                self._places.setdefault((found[4][0], node.port), place)


def _endpoint(name: str) -> Endpoint:
    try:
        return parse_endpoint(name, 9042)
    except ConfigError as exc:
        raise LookupError(str(exc)) from exc
