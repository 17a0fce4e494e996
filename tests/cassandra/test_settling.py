"""Lightweight transactions with an unknown outcome, on a real node.

A transport loses or delays requests and replies. A timeout in the node itself would need replicas
that don't answer. To leave a Paxos round incomplete on a single node, a test asks for a commit on
more replicas than there are.
"""

from __future__ import annotations

import itertools
import random
import uuid
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto_anyio.lwt import settle
from tests.cassandra.concurrently import all_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

ACQUIRE = "INSERT INTO locks (name, holder) VALUES (?, ?) IF NOT EXISTS"
HOLDER = "SELECT holder FROM locks WHERE name = ?"
fresh = itertools.count()


class Lossy(anyio.abc.ByteStream):
    """A transport that applies ``network.fault`` to the request that contains ``network.mark``."""

    def __init__(self, stream: anyio.abc.ByteStream, network: Network) -> None:
        self._stream = stream
        self._network = network
        self._fault: str | None = None
        self._reading = anyio.CancelScope()

    async def send(self, item: bytes) -> None:
        fault = self._network.fault
        if fault is None or self._network.mark not in item:
            await self._stream.send(item)
            return
        self._network.fault = None
        self._fault = fault
        if fault == "delay the request":
            self._network.delayed.append((self._stream, item))
        elif fault != "lose the request":
            await self._stream.send(item)
            return
        self._reading.cancel()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        while self._fault not in ("lose the request", "delay the request"):
            with anyio.CancelScope() as self._reading:
                data = await self._stream.receive(max_bytes)
                if self._fault == "lose the reply":
                    break
                if self._fault != "swallow the reply":
                    return data
                self._fault = None
        raise anyio.EndOfStream

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        if self._fault != "delay the request":
            await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._stream.extra_attributes


class Network:
    """Makes the transports of a session.

    Attributes:
        fault: what happens to the next request that contains the mark, or None.
        mark: the bytes of the writer's id.
        delayed: the streams and bytes of requests that are delayed.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        self.mark = b""
        self.delayed: list[tuple[anyio.abc.ByteStream, bytes]] = []

    async def connector(self, endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
        return Lossy(await anyio.connect_tcp(endpoint.address, endpoint.port), self)

    def break_down(self, fault: str | None, owner: uuid.UUID) -> None:
        self.fault, self.mark = fault, owner.bytes

    async def deliver(self) -> None:
        """Deliver the delayed requests, whose senders have given them up."""
        while self.delayed:
            stream, item = self.delayed.pop()
            await stream.send(item)
            await stream.receive()
            await stream.aclose()


@asynccontextmanager
async def connected(
    node: Node, keyspace: str, network: Network, version: ProtocolVersion
) -> AsyncIterator[cql.Session]:
    config = cql.Config(protocol_version=version, connector=network.connector)
    async with cql.connect(node.host, port=node.port, keyspace=keyspace, config=config) as session:
        yield session


@pytest.fixture(scope="module", autouse=True)
def table(cassandra: Node, keyspace: str) -> None:
    cassandra.cql(f"CREATE TABLE {keyspace}.locks (name int PRIMARY KEY, holder uuid, version int)")


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture(params=[ProtocolVersion.V5, ProtocolVersion.V4], ids=str)
async def session(
    cassandra: Node,
    keyspace: str,
    network: Network,
    anyio_backend: object,
    request: pytest.FixtureRequest,
) -> AsyncIterator[cql.Session]:
    async with connected(cassandra, keyspace, network, request.param) as session:
        yield session


def held_by(owner: uuid.UUID) -> Callable[[Any], bool]:
    return lambda row: row is not None and row.holder == owner


async def acquire(
    session: cql.Session, name: int, owner: uuid.UUID, **options: Any
) -> tuple[bool, cql.CQLError | None]:
    """Take a lock as a program would; return whether it has it, and the error that was settled."""
    try:
        result = await session.execute(ACQUIRE, (name, owner), **options)
    except cql.CQLError as error:
        mine = await settle(session, error, HOLDER, (name,), applied=held_by(owner), grace=0.3)
        return mine, error
    return result.applied, None


FAULTS = {
    "lose the reply": (True, cql.ConnectionLost),
    "swallow the reply": (True, cql.RequestTimeout),
    "lose the request": (False, cql.ConnectionLost),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_settle_tells_whether_the_request_arrived(
    session: cql.Session, network: Network, fault: str
) -> None:
    reached, kind = FAULTS[fault]
    name, me = next(fresh), uuid.uuid4()
    network.break_down(fault, me)
    mine, error = await acquire(session, name, me, timeout=0.5)
    assert type(error) is kind
    assert error is not None
    assert error.maybe_applied
    assert mine is reached
    found = (await session.execute(HOLDER, (name,), consistency=cql.Consistency.ONE)).first()
    assert (found is not None and found.holder == me) is reached


async def test_another_writer_holds_the_lock(session: cql.Session, network: Network) -> None:
    name, me = next(fresh), uuid.uuid4()
    assert await acquire(session, name, uuid.uuid4()) == (True, None)
    network.break_down("lose the reply", me)
    mine, error = await acquire(session, name, me)
    assert isinstance(error, cql.ConnectionLost)
    assert mine is False


async def test_an_update_of_a_version(session: cql.Session, network: Network) -> None:
    name, me = next(fresh), uuid.uuid4()
    await session.execute("INSERT INTO locks (name, version) VALUES (?, 1)", (name,))
    update = "UPDATE locks SET version = 2, holder = ? WHERE name = ? IF version = 1"
    network.break_down("lose the reply", me)
    with pytest.raises(cql.ConnectionLost) as info:
        await session.execute(update, (me, name), serial_consistency=cql.Consistency.LOCAL_SERIAL)
    read = "SELECT version, holder FROM locks WHERE name = ?"
    assert await settle(
        session,
        info.value,
        read,
        (name,),
        applied=lambda row: row == {"version": 2, "holder": me},
        row=dict,
        serial_consistency=cql.Consistency.LOCAL_SERIAL,
    )


async def test_a_conditional_batch(session: cql.Session, network: Network) -> None:
    name, me = next(fresh), uuid.uuid4()
    version = "UPDATE locks SET version = 1 WHERE name = ?"
    network.break_down("lose the reply", me)
    with pytest.raises(cql.ConnectionLost) as info:
        await session.batch([(ACQUIRE, (name, me)), (version, (name,))])
    assert await settle(session, info.value, HOLDER, (name,), applied=held_by(me))


async def test_a_round_that_was_left_half_done_is_completed(
    session: cql.Session, network: Network
) -> None:
    """The node accepts the proposal, and then has too few replicas for the commit. A read at ONE
    does not see the row; a read at SERIAL completes the round.
    """
    name, me = next(fresh), uuid.uuid4()
    with pytest.raises(cql.Unavailable) as info:
        await session.execute(ACQUIRE, (name, me), consistency=cql.Consistency.TWO)
    ordinary = session.using(profile=cql.Profile(consistency=cql.Consistency.ONE))
    assert (await ordinary.execute(HOLDER, (name,))).rows == []
    assert await settle(session, info.value, HOLDER, (name,), applied=held_by(me))
    assert (await ordinary.execute(HOLDER, (name,))).one().holder == me


async def test_a_request_that_arrives_late_is_found_within_the_grace(
    session: cql.Session, network: Network
) -> None:
    name, me = next(fresh), uuid.uuid4()
    decide = partial(settle, applied=held_by(me))
    network.break_down("delay the request", me)
    with pytest.raises(cql.ConnectionLost) as info:
        await session.execute(ACQUIRE, (name, me))
    assert await decide(session, info.value, HOLDER, (name,), grace=0) is False

    async def late() -> None:
        await anyio.sleep(0.3)
        await network.deliver()

    async with anyio.create_task_group() as group:
        group.start_soon(late)
        assert await decide(session, info.value, HOLDER, (name,), grace=10.0) is True


async def test_a_statement_without_a_condition(session: cql.Session, network: Network) -> None:
    with pytest.raises(cql.Unavailable) as info:
        await session.execute(
            "INSERT INTO locks (name) VALUES (?)", (1,), consistency=cql.Consistency.TWO
        )
    with pytest.raises(cql.UsageError, match=r"has no condition \(IF\)"):
        await settle(session, info.value, HOLDER, (1,), applied=lambda row: row is not None)


async def test_one_of_many_writers_wins_over_a_bad_network(cassandra: Node, keyspace: str) -> None:
    """Exactly one client holds the lock, and only its own result says so."""
    writers = 8
    for turn in range(3):
        name = next(fresh)
        owners = [uuid.uuid4() for _ in range(writers)]
        errors: list[cql.CQLError | None] = []

        async def one(
            owner: uuid.UUID, seed: str, name: int = name, errors: list[Any] = errors
        ) -> bool:
            network = Network()
            dice = random.Random(seed)
            async with connected(cassandra, keyspace, network, ProtocolVersion.V5) as session:
                await anyio.sleep(dice.random() * 0.05)
                network.break_down(dice.choice([*FAULTS, "lose the reply", None]), owner)
                mine, error = await acquire(session, name, owner, timeout=2.0)
                errors.append(error)
                return mine

        won = await all_of(
            [partial(one, owner, f"{turn} {number}") for number, owner in enumerate(owners)]
        )
        async with connected(cassandra, keyspace, Network(), ProtocolVersion.V5) as session:
            found = (
                await session.execute(HOLDER, (name,), consistency=cql.Consistency.SERIAL)
            ).one()
        assert [owner for owner, mine in zip(owners, won, strict=True) if mine] == [found.holder]
        assert sum(error is not None for error in errors) >= writers // 3
