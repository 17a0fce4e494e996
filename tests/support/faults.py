"""Outcomes of attempts, and a fake cluster that follows a list of such faults.

    script = Script(cluster, [Fault("cut", applied=True), failure(ErrorCode.OVERLOADED)])

The n-th attempt at a statement meets the n-th fault, at whichever host it arrives; later attempts
succeed. The script records what the hosts have applied and where each attempt went, for comparison
with the client's results.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from cqlproto import ProtocolVersion
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.enums import Consistency, ErrorCode
from cqlproto.messages import (
    VOID,
    Batch,
    BatchStatement,
    Column,
    Error,
    Execute,
    ResultMetadata,
    Rows,
)
from cqlproto_anyio._text import read_statement
from cqlproto_anyio.testing import snapshot
from tests.support.fakecluster import row_v
from tests.support.server import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import cqlproto_anyio as cql
    from cqlproto.messages import Prepare, Response
    from tests.support.fakecluster import FakeCluster, FakeHost, FakeRequest

__all__ = [
    "CODES",
    "PROVED",
    "SUCCESS",
    "Fault",
    "Script",
    "failure",
    "lwt_reply",
    "preparing",
    "settled",
    "success",
    "unprepared",
]

_FIELDS: dict[str, Any] = {
    "consistency": Consistency.QUORUM,
    "required": 2,
    "alive": 1,
    "received": 1,
    "write_type": "SIMPLE",
    "data_present": True,
    "failures": 1,
    "reasons": {},
    "keyspace": "ks",
    "table": "t",
    "function": "f",
    "argument_types": ["int"],
    "statement_id": b"?",
}

CODES = [int(code) for code in ErrorCode if code != ErrorCode.UNPREPARED] + [0x7777]
"""Codes a server may send for an attempt; UNPREPARED is a way of its own."""

PROVED = frozenset(
    {
        ErrorCode.PROTOCOL_ERROR,
        ErrorCode.BAD_CREDENTIALS,
        ErrorCode.IS_BOOTSTRAPPING,
        ErrorCode.FUNCTION_FAILURE,
        ErrorCode.SYNTAX_ERROR,
        ErrorCode.UNAUTHORIZED,
        ErrorCode.INVALID,
        ErrorCode.CONFIG_ERROR,
        ErrorCode.ALREADY_EXISTS,
    }
)
"""Codes that say that the server has written nothing, whatever the statement was."""


class Fault(NamedTuple):
    """The outcome of one attempt.

    Attributes:
        way: ``"success"``, ``"error"``, ``"unprepared"``, ``"cut"`` (the connection breaks),
            ``"close"`` (it ends in order), ``"half"`` (it ends in the middle of the reply),
            ``"drop"`` (there is no reply) or ``"held"`` (the test replies).
        code: of the error.
        applied: whether the host has executed the statement.
        fields: of the error, where they aren't the usual ones.
    """

    way: str
    code: int = 0
    applied: bool = False
    fields: tuple[tuple[str, Any], ...] = ()

    @property
    def proved(self) -> bool:
        """Whether the client knows that nothing was applied."""
        return self.way == "unprepared" or (self.way == "error" and self.code in PROVED)

    def message(self) -> Error:
        """Return the ERROR, with all fields of its code, in any version."""
        return Error(self.code, "as told", {**_FIELDS, **dict(self.fields)})


SUCCESS = Fault("success", applied=True)


def failure(code: int, *, applied: bool = False, **fields: Any) -> Fault:
    """An ERROR."""
    return Fault("error", code, applied, tuple(fields.items()))


def unprepared(request: FakeRequest) -> Error:
    """The host has forgotten the executed statement, or the first one of a batch."""
    message = request.message
    identity = b"?"
    if isinstance(message, Execute):
        identity = message.statement_id
    elif isinstance(message, Batch):
        prepared = [each.query for each in message.statements if isinstance(each.query, bytes)]
        identity = prepared[0] if prepared else identity
    request.host.prepared.pop(identity, None)
    return Error(ErrorCode.UNPREPARED, "unknown", {"statement_id": identity})


_APPLIED = ResultMetadata.of(
    [Column("ks", "t", "[applied]", NATIVE_TYPES["boolean"])], ProtocolVersion.V4
)


def lwt_reply() -> Rows:
    """The result of a conditional statement that was applied."""
    return Rows.of(_APPLIED, 1, b"\0\0\0\x01\x01")


def texts_of(request: FakeRequest) -> list[str]:
    """Return the statements of a request."""
    message = request.message
    if not isinstance(message, Batch):
        return [request.text]
    known = request.host.prepared
    return [_text(each, known) for each in message.statements]


def _text(statement: BatchStatement, known: dict[bytes, str]) -> str:
    query = statement.query
    return query if isinstance(query, str) else known.get(query, "")


def success(request: FakeRequest) -> Response:
    """Return a host's reply to a statement that it has executed."""
    texts = texts_of(request)
    if any(read_statement(text).conditional for text in texts):
        return lwt_reply()
    return row_v(request.number) if texts[0].startswith("SELECT") else VOID


class Script:
    """Answers a cluster's statements by a list of faults, and records what it has done.

    Attributes:
        faults: the faults that are left.
        applied: how many times a write was applied.
        attempts: the host and the fault of each attempt, in order.
        held: requests that the test must answer.
    """

    def __init__(self, cluster: FakeCluster, faults: Sequence[Fault] = ()) -> None:
        self.faults = list(faults)
        self.applied = 0
        self.attempts: list[tuple[FakeHost, Fault]] = []
        self.held: list[FakeRequest] = []
        cluster.answer = self.answer

    @property
    def hosts(self) -> list[FakeHost]:
        """The hosts of the attempts."""
        return [host for host, _ in self.attempts]

    def answer(self, request: FakeRequest) -> Response | None:
        """Answer a request by the next fault."""
        fault = self.faults.pop(0) if self.faults else SUCCESS
        self.attempts.append((request.host, fault))
        if not read_statement(texts_of(request)[0]).reads:
            self.applied += fault.applied
        connection = request.connection
        if fault.way == "success":
            return success(request)
        if fault.way == "error":
            return fault.message()
        if fault.way == "unprepared":
            return unprepared(request)
        if fault.way == "cut":
            connection.cut()
        elif fault.way == "close":
            connection.close()
        elif fault.way == "half":
            connection.core.reply(request.stream_id, success(request))
            data = connection.core.data_to_send()
            connection.send_raw(data[: len(data) // 2])
            connection.close()
        elif fault.way == "held":
            self.held.append(request)
        else:
            assert fault.way == "drop"
        return None


@contextmanager
def preparing(
    cluster: FakeCluster, meet: Callable[[FakeRequest], Response | None]
) -> Iterator[None]:
    """Call this function first for every PREPARE; it returns the reply, or None for the usual."""
    usual = cluster._prepare

    def prepare(request: FakeRequest, message: Prepare) -> Response:
        return meet(request) or usual(request, message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "_prepare", prepare)
        yield


async def settled(session: cql.Session) -> None:
    """Wait until only stream ids whose replies never come are left of any call."""

    def is_settled() -> bool:
        now = snapshot(session)
        return now.in_flight == now.orphans and not any(
            (now.waiting, now.deadlines, now.alarms, now.waiting_calls, now.pausing, now.preparing)
        )

    await until(is_settled)
