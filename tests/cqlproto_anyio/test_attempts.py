"""Attempts at one host after another: never twice what may have been applied, and truthful of it.

The property at the top is what a client is for. What becomes of each attempt is drawn; the hosts
count what they have applied, and what the client says is compared with that. The timeouts are long
unless a reply is dropped: no outcome rests on how busy the machine is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.enums import ErrorCode
from cqlproto_anyio.policies import Retry
from tests.cqlproto_anyio.clusters import INSERT, LWT, SELECT, connected, session_on
from tests.cqlproto_anyio.fakecluster import FakeCluster
from tests.cqlproto_anyio.faults import CODES, PROVED, SUCCESS, Fault, Script
from tests.cqlproto_anyio.server import state, until

if TYPE_CHECKING:
    from cqlproto_anyio.exceptions import CQLError

COUNTER = "UPDATE ks.c SET v = v + ? WHERE k = ?"
QUICK = cql.DefaultRetry(overload_delay=0.001, schema_delay=0.001)
LONG = 30.0  # seconds; nothing takes so long
SHORT = 0.02  # for a reply that never comes


class Greedy(NamedTuple):
    """Would repeat anything, however unsafe it is."""

    next_host: bool
    delay: float = 0.0
    most: int = 6

    def decide(
        self, error: CQLError, *, attempt: int, idempotent: bool, reads: bool
    ) -> Retry | None:
        return Retry(self.next_host, self.delay) if attempt < self.most else None


class Kind(NamedTuple):
    """A statement as a user would send it.

    Attributes:
        call: sends it.
        repeatable: whether it may be carried out twice.
        reads: whether it changes nothing.
    """

    call: Callable[..., Awaitable[Any]]
    repeatable: bool = False
    reads: bool = False


def execute(query: str, parameters: Any, **more: Any) -> Callable[..., Awaitable[Any]]:
    return lambda session, **options: session.execute(query, parameters, **more, **options)


def batch(*items: Any, **more: Any) -> Callable[..., Awaitable[Any]]:
    return lambda session, **options: session.batch(items, **more, **options)


KINDS = {
    "select": Kind(execute(SELECT, (1,)), repeatable=True, reads=True),
    "plain select": Kind(execute("SELECT v FROM ks.t", None), repeatable=True, reads=True),
    "page": Kind(
        lambda session, **options: session.page(SELECT, (1,), **options),
        repeatable=True,
        reads=True,
    ),
    "insert": Kind(execute(INSERT, (1, 2))),
    "plain insert": Kind(execute("INSERT INTO ks.t (k, v) VALUES (1, 2)", None)),
    "traced insert": Kind(execute(INSERT, (1, 2), trace=True)),
    "idempotent insert": Kind(execute(INSERT, (1, 2), idempotent=True), repeatable=True),
    "lwt": Kind(execute(LWT, (1, 2))),
    "lwt called idempotent": Kind(execute(LWT, (1, 2), idempotent=True)),
    "batch": Kind(batch((INSERT, (1, 2)), "INSERT INTO ks.t (k, v) VALUES (3, 4)")),
    "idempotent batch": Kind(batch((INSERT, (1, 2)), idempotent=True), repeatable=True),
    "conditional batch": Kind(batch((LWT, (1, 2)), kind="unlogged", idempotent=True)),
    "counter": Kind(execute(COUNTER, (1, 2))),
    "counter batch": Kind(batch((COUNTER, (1, 2)), kind="counter")),
}


def _broken(way: str, applied: bool) -> Fault:
    return Fault(way, applied=applied or way == "half")


def _refused(code: int, applied: bool) -> Fault:
    return Fault("error", code, applied and code not in PROVED)


FAULTS = st.one_of(
    st.builds(_refused, st.sampled_from(CODES), st.booleans()),
    st.builds(_broken, st.sampled_from(["cut", "close", "half", "drop"]), st.booleans()),
    st.just(Fault("unprepared")),
    st.just(SUCCESS),
)


def consistent(kind: Kind, name: str, faults: list[Fault]) -> list[Fault]:
    """Too few replicas for a single partition: that is found out before anything is written."""
    one_partition = "batch" not in name and "lwt" not in name
    return [
        fault._replace(applied=False)
        if fault.code == ErrorCode.UNAVAILABLE and one_partition
        else fault
        for fault in faults
    ]


POLICIES = [
    QUICK,
    cql.NoRetry(),
    Greedy(True),
    Greedy(False),
    Greedy(True, delay=0.001, most=8),
]


def attempts_of(error: BaseException) -> list[BaseException]:
    """Return what each attempt has failed with, the last one included."""
    assert isinstance(error, cql.CQLError)
    return list(error.attempts) or [error]


async def settled(session: cql.Session) -> None:
    """Wait until nothing of any call is left but ids whose replies never come."""

    def is_settled() -> bool:
        now = state(session)
        return now.in_flight == now.orphans and now[2:] == (0, 0, 0)

    await until(is_settled)
    assert not session._runtime._pausing
    assert not session._runtime.cluster._waiters


def judge(kind: Kind, script: Script, error: BaseException | None, version: int) -> None:
    """Compare what a call said with what the hosts have done."""
    met = [(host, fault) for host, fault in script.attempts if fault.way != "unprepared"]
    if not kind.repeatable:
        assert script.applied <= 1
    if error is None:
        assert met
        assert met[-1][1] == SUCCESS
        if not kind.reads:
            assert script.applied
        return
    assert isinstance(error, cql.CQLError)
    if kind.reads:
        assert not error.maybe_applied
    elif script.applied:
        assert error.maybe_applied
    told = attempts_of(error)
    assert error.host in (None, getattr(told[-1], "host", None))
    failed = [host for host, fault in met if fault != SUCCESS]
    told = [each for each in told if not isinstance(each, cql.Unprepared)]
    if told and len(told) > len(failed) and isinstance(told[-1], cql.RequestTimeout):
        told.pop()  # on a busy machine the time may be over before the request is read
    if len(failed) == len(told) and all(fault.proved for _, fault in met):
        assert not error.maybe_applied
    assert [each.host for each in told] == [str(host) for host in failed]
    for each, (_, fault) in zip(told, met, strict=True):
        assert isinstance(each, cql.CQLError)
        if fault.way == "drop":
            assert isinstance(each, cql.RequestTimeout)
        elif fault.way == "error":
            assert isinstance(each, cql.DatabaseError)
            assert each.code == fault.code
        else:
            assert isinstance(each, cql.ConnectionLost)
        if not kind.reads and fault.applied:
            assert each.maybe_applied
    if isinstance(error, cql.NoHostAvailable):
        assert all(isinstance(each, cql.ConnectionFailed) for each in told)
        for each in told:
            assert str(each) in str(error)
    else:
        assert error.host


@settings(max_examples=150)
@given(
    name=st.sampled_from(list(KINDS)),
    faults=st.lists(FAULTS, max_size=5),
    policy=st.sampled_from(POLICIES),
    version=st.sampled_from([ProtocolVersion.V5, ProtocolVersion.V4]),
    pushes=st.booleans(),
)
async def test_nothing_is_applied_twice(
    name: str, faults: list[Fault], policy: Any, version: ProtocolVersion, pushes: bool
) -> None:
    kind = KINDS[name]
    cluster = FakeCluster(3)
    cluster.pushes = pushes
    script = Script(cluster, consistent(kind, name, faults))
    drops = any(fault.way == "drop" for fault in faults)
    timeout = SHORT if drops else LONG
    async with session_on(cluster, protocol_version=version, max_orphans=100) as session:
        await connected(session, cluster.hosts)
        error: BaseException | None = None
        with anyio.fail_after(10):
            try:
                await kind.call(session, retry=policy, timeout=timeout)
            except cql.CQLError as exc:
                error = exc
        judge(kind, script, error, version)
        await settled(session)
