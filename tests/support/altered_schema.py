"""A schema that a test alters, on a cluster in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqlproto import ProtocolVersion
from cqlproto.cqltypes import NATIVE_TYPES, UserType
from cqlproto.messages import VOID, BindMetadata, Column, Execute, Prepared, ResultMetadata, Rows
from tests.support.fakehosts import V_METADATA

if TYPE_CHECKING:
    from cqlproto.messages import Response
    from tests.support.fakecluster import FakeCluster, FakeRequest

__all__ = ["ADDRESS", "LONGER", "Schema", "described"]

V4 = ProtocolVersion.V4
INT, TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]
ADDRESS = UserType("ks", "address", (("street", TEXT),))
LONGER = UserType("ks", "address", (("street", TEXT), ("zip", TEXT)))


def described(*columns: tuple[str, Any]) -> ResultMetadata:
    return ResultMetadata.of([Column("ks", "t", name, kind) for name, kind in columns], V4)


class Schema:
    """Prepares statements with the types that a test sets, on all hosts, and answers with them.

    Attributes:
        markers: the types of the markers.
        result: the columns of the rows.
        generation: a number that becomes part of the result metadata id.
        skipped: for each execution, whether it asked for rows without metadata.
        ids: the result metadata ids of the executions.
    """

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.markers: list[Any] = [INT]
        self.result = V_METADATA
        self.content = b"\0\0\0\x04\0\0\0\x07"
        self.generation = 0
        self.skipped: list[bool] = []
        self.ids: list[bytes | None] = []
        cluster.answer = self.answer

    def prepare(self, request: FakeRequest) -> Response:
        usual = type(self.cluster)._prepare(self.cluster, request, request.message)  # type: ignore[arg-type]
        assert isinstance(usual, Prepared)
        columns = tuple(
            Column("ks", "t", f"m{number}", kind) for number, kind in enumerate(self.markers)
        )
        identity = b"generation %d" % self.generation
        return Prepared(usual.statement_id, identity, BindMetadata(columns, ()), self.result)

    def answer(self, request: FakeRequest) -> Response:
        message = request.message
        assert isinstance(message, Execute)
        self.skipped.append(message.parameters.skip_metadata)
        self.ids.append(message.result_metadata_id)
        if not request.text.startswith("SELECT"):
            return VOID
        rows = Rows.of(self.result, 1, self.content)
        if not message.parameters.skip_metadata:
            return rows
        current = b"generation %d" % self.generation
        if message.result_metadata_id != current:  # v5: the new columns and their id
            return Rows.of(self.result, 1, self.content, metadata_id=current)
        return Rows.of(self.result, 1, self.content, skip_metadata=True)

    def alter(self) -> None:
        """ALTER TABLE t ADD u text: hosts forget their statements."""
        self.generation += 1
        self.result = described(("u", TEXT), ("v", INT))
        self.content = b"\0\0\0\x01a" + b"\0\0\0\x04\0\0\0\x08"
