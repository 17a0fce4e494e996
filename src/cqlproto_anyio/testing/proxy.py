"""A proxy between clients and one node that applies faults by rules.

It tests how programs, and clients of any kind, cope with faults of networks and nodes. An error in
the body of ``async with`` leaves the block unchanged, never in an ExceptionGroup; a failure of the
proxy itself is raised at the end of the block.
"""

from __future__ import annotations

import random
from collections import deque
from ipaddress import ip_address
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import anyio.lowlevel

from cqlproto_anyio._settings.arguments import parse_endpoint
from cqlproto_anyio.endpoint import Endpoint
from cqlproto_anyio.exceptions import ConfigError, UsageError
from cqlproto_anyio.testing._memory import MemoryStream
from cqlproto_anyio.testing._sockets import Listener
from cqlproto_anyio.testing.link import Gate, Link, reset
from cqlproto_anyio.testing.relay import Entry, Relay, Statements
from cqlproto_anyio.testing.rules import Rule, Rules

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from anyio.abc import ByteStream

    from cqlproto_anyio.config import Connector

__all__ = ["FaultProxy"]

_LOG_SIZE = 10_000


class FaultProxy:
    """A proxy for one node: ``async with FaultProxy("127.0.0.1", 9042) as proxy``.

    Frames that no rule matches pass unchanged. All methods act at once and do not wait.

    Arguments:
        host: the node: an address or a name, optionally with a port, or an
            :class:`~cqlproto_anyio.Endpoint`.
        port: the node's port if ``host`` has none.
        seed: the seed of the rules' random generators; None for a random one.
        listen: the IP address to listen on; None for no TCP listener, only :meth:`connector`.
        listen_port: the port to listen on; 0 for a free port.
        connector: opens the transport to the node, in place of TCP: ``async (Endpoint) ->
            ByteStream``.
        statements: the prepared statements, shared by several proxies.

    Attributes:
        node: the endpoint of the node.
        seed: the seed in use; passing it again repeats the rules' random decisions.
        log: the frames that a rule has struck, newest last, at most 10,000 entries.
        accepted: the number of connections so far.

    Raises:
        ConfigError: an argument is wrong (raised by the constructor).
        OSError: the proxy can't listen (raised on entering).
    """

    def __init__(
        self,
        host: str | Endpoint,
        port: int = 9042,
        *,
        seed: int | None = None,
        listen: str | None = "127.0.0.1",
        listen_port: int = 0,
        connector: Connector | None = None,
        statements: Statements | None = None,
    ) -> None:
        if listen is not None:
            try:
                ip_address(listen)
            except ValueError as exc:
                raise ConfigError(f"listen must be an IP address or None, got {listen!r}") from exc
        self.node = host if isinstance(host, Endpoint) else parse_endpoint(host, port)
        self.seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
        self.log: deque[Entry] = deque(maxlen=_LOG_SIZE)
        self.accepted = 0
        self._rules = Rules(self.seed)
        self._statements = Statements() if statements is None else statements
        self._listen = listen
        self._listen_port = listen_port
        self._connector = connector
        self._links: set[Link] = set()
        self._gate = Gate()
        self._refuse = False
        self._admits = anyio.Event()
        self._group: anyio.abc.TaskGroup | None = None
        self._endpoint: Endpoint | None = None
        self._listener: Listener | None = None
        self._failure: Exception | None = None

    def __repr__(self) -> str:
        shown = f"{self._endpoint or 'not listening'}, for {self.node}, seed={self.seed}"
        return f"<FaultProxy {shown}>"

    # -- endpoints

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that clients connect to.

        Raises:
            UsageError: the proxy does not listen: it is not entered, or ``listen`` is None.
        """
        if self._endpoint is None:
            raise UsageError("the proxy isn't listening: enter it with `async with`")
        return self._endpoint

    @property
    def host(self) -> str:
        """The address of :attr:`endpoint`."""
        return self.endpoint.address

    @property
    def port(self) -> int:
        """The port of :attr:`endpoint`."""
        return self.endpoint.port

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._links)

    async def connector(self, endpoint: Endpoint) -> ByteStream:
        """Open a connection in memory, for ``Config(connector=proxy.connector)``.

        Arguments:
            endpoint: ignored; all connections go to :attr:`node`.

        Raises:
            ConnectionRefusedError: the proxy refuses connections.
            UsageError: the proxy is not entered.
        """
        await anyio.lowlevel.checkpoint()
        if self._group is None:
            raise UsageError("the proxy isn't running: enter it with `async with`")
        if self._refuse:
            raise ConnectionRefusedError(f"the proxy of {self.node} refuses connections")
        theirs, ours = MemoryStream.pair()
        self._begin(ours)
        return theirs

    # -- rules and connections

    def add(self, rule: Rule) -> Rule:
        """Append a rule, and return it.

        Raises:
            ConfigError: the rule was added before.
        """
        self._rules.add(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Remove a rule; a rule that was not added is ignored."""
        self._rules.remove(rule)

    def clear(self) -> None:
        """Remove all rules."""
        self._rules.clear()

    def pause(self) -> None:
        """Relay nothing. Connections stay open, and new ones are accepted."""
        self._gate.close()

    def resume(self) -> None:
        """Relay again; this also ends every :class:`Stall`."""
        self._gate.open()
        for link in self._links:
            link.resume()

    @property
    def paused(self) -> bool:
        """Whether the proxy is paused."""
        return self._gate.closed

    def cut_all(self, *, reset: bool = False) -> int:
        """Close all connections, and return their number.

        Arguments:
            reset: close them with a TCP reset.
        """
        for link in self._links:
            link.cut(reset=reset)
        return len(self._links)

    @property
    def refuse(self) -> bool:
        """Whether new connections are refused; open connections stay.

        The proxy keeps its port. Linux refuses connections on a port that is kept; other systems
        can't, so there the proxy accepts a connection and resets it at once.
        """
        return self._refuse

    @refuse.setter
    def refuse(self, value: bool) -> None:
        if value is self._refuse:
            return
        self._refuse = value
        if self._listener is not None:
            self._listener.set_listening(not value)
        if value:
            self._admits = anyio.Event()
        else:
            self._admits.set()

    # -- running

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise UsageError("the proxy is running already")
        listener = None
        if self._listen is not None:
            listener = Listener(self._listen, self._listen_port)
            self._endpoint = Endpoint(self._listen, listener.port)
            if self._refuse:
                listener.set_listening(False)
        self._listener = listener
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        if listener is not None:
            self._group.start_soon(self._accept, listener)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        group, self._group = self._group, None
        assert group is not None
        self._endpoint = self._listener = None
        group.cancel_scope.cancel()
        # The group does not see the error of the body: it would wrap it in an ExceptionGroup.
        await group.__aexit__(None, None, None)
        failure, self._failure = self._failure, None
        if failure is not None:
            if error is None:
                raise failure
            error.add_note(f"The fault proxy failed as well: {failure!r}")

    async def _accept(self, listener: Listener) -> None:
        try:
            while True:
                try:
                    stream = await listener.accept()
                except OSError:
                    if self._refuse:
                        await self._admits.wait()
                    else:
                        await anyio.sleep(0.01)  # refused meanwhile, or no file descriptor is left
                    continue
                if self._refuse:
                    reset(stream)
                    await anyio.aclose_forcefully(stream)
                else:
                    self._begin(stream)
        finally:
            listener.close()

    def _begin(self, client: ByteStream) -> None:
        assert self._group is not None
        self.accepted += 1
        relay = Relay(self.accepted, self._rules, self._statements, self.log.append)
        link = Link(client, self._reach, relay, self._gate)
        self._links.add(link)
        self._group.start_soon(self._run, link)

    async def _run(self, link: Link) -> None:
        try:
            await link.run()
        except Exception as exc:
            if self._failure is None:
                self._failure = exc
        finally:
            self._links.discard(link)

    async def _reach(self) -> ByteStream:
        if self._connector is not None:
            return await self._connector(self.node)
        return await anyio.connect_tcp(self.node.address, self.node.port)
