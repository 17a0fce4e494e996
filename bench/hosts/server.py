"""Simulates many nodes in one process, over TCP: ``python -m bench.hosts.server HOSTS TOKENS``.

Node *n* has the *n*-th address of 127.1.0.0/16. One listening socket serves all nodes, because all
of 127.0.0.0/8 is local. The in-memory cluster of the client's tests answers the requests, with its
system tables; this module copies bytes between it and the sockets. The process prints its port as
the first line, and ends when its standard input ends.
"""

from __future__ import annotations

import ipaddress
import sys
from contextlib import suppress

import anyio
import anyio.abc
import anyio.to_thread

from cqlproto_anyio import Endpoint
from tests.support.fakecluster import FakeCluster

KEYSPACE = "ks"
_FIRST = int(ipaddress.IPv4Address("127.1.0.1"))


def address(number: int) -> str:
    """Return the address of a node; numbers begin with 0."""
    return str(ipaddress.IPv4Address(_FIRST + number))


async def _copy(source: anyio.abc.ByteStream, sink: anyio.abc.ByteStream) -> None:
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
        while True:
            await sink.send(await source.receive())


async def serve(hosts: int, tokens: int) -> None:
    """Serve until the end of standard input."""
    listener = await anyio.create_tcp_listener(local_host="0.0.0.0", backlog=1024)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    cluster = FakeCluster(hosts, tokens=tokens, racks=("r1", "r2", "r3"), port=port)
    for number, host in enumerate(cluster.hosts):
        host.change(address=address(number))

    async def handle(client: anyio.abc.SocketStream) -> None:
        where = client.extra(anyio.abc.SocketAttribute.local_address)[0]
        async with client:
            node = await cluster.connector(Endpoint(str(where), port))
            async with node, anyio.create_task_group() as group:
                group.start_soon(_copy, node, client)
                await _copy(client, node)
                group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        print(port, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)
        group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(serve, int(sys.argv[1]), int(sys.argv[2]))
