"""Strategies return every kind of request, with every option of its version and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from cqlproto.enums import BatchKind, ProtocolVersion
from cqlproto.messages import (
    AuthResponse,
    Batch,
    Error,
    Execute,
    Options,
    Prepare,
    Query,
    QueryParameters,
    Register,
    Startup,
    read_parameters,
    write_parameters,
)
from cqlproto.testing import client_messages, query_parameters, requests
from cqlproto.wire import UNSET, Reader
from tests.cqlproto.testing.examples import FEW, comes, never_comes, run_examples

if TYPE_CHECKING:
    from collections.abc import Callable

V3, V4, V5 = ProtocolVersion
VERSIONS = pytest.mark.parametrize("version", ProtocolVersion)
KINDS = [Startup, Options, AuthResponse, Register, Query, Prepare, Execute, Batch]

PARAMETERS: dict[str, Callable[[QueryParameters], bool]] = {
    "no values": lambda p: p.values is None,
    "no value": lambda p: p.values is not None and not p.values,
    "by position": lambda p: bool(p.values) and p.names is None,
    "by name": lambda p: bool(p.names),
    "null": lambda p: p.values is not None and None in p.values,
    "empty": lambda p: p.values is not None and b"" in p.values,
    "skip metadata": lambda p: p.skip_metadata,
    "page size": lambda p: p.page_size is not None,
    "paging state": lambda p: p.paging_state is not None,
    "serial consistency": lambda p: p.serial_consistency is not None,
    "timestamp": lambda p: p.timestamp is not None,
    "nothing": lambda p: p.page_size is None and p.paging_state is None and p.timestamp is None,
}
LATER: dict[str, tuple[ProtocolVersion, Callable[[QueryParameters], bool]]] = {
    "unset": (V4, lambda p: p.values is not None and UNSET in p.values),
    "keyspace": (V5, lambda p: p.keyspace is not None),
    "now": (V5, lambda p: p.now_in_seconds is not None),
}


@VERSIONS
@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_comes(name: str, version: ProtocolVersion) -> None:
    assert comes(query_parameters(version), PARAMETERS[name])


@VERSIONS
@pytest.mark.parametrize("name", LATER)
def test_parameters_come_from_their_version_on(name: str, version: ProtocolVersion) -> None:
    since, wanted = LATER[name]
    if version >= since:
        assert comes(query_parameters(version), wanted)
    else:
        assert never_comes(query_parameters(version), wanted)


@VERSIONS
@given(data=st.data())
def test_parameters_are_read_as_they_were_written(
    version: ProtocolVersion, data: st.DataObject
) -> None:
    params = data.draw(query_parameters(version))
    out = bytearray()
    write_parameters(out, params, version)
    assert read_parameters(Reader(bytes(out)), version) == params


@VERSIONS
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_and_alone_if_asked_for(kind: type[Any], version: ProtocolVersion) -> None:
    assert comes(requests(version), lambda message: isinstance(message, kind))

    @FEW
    @given(requests(version, kind))
    def only_this(message: object) -> None:
        assert type(message) is kind

    only_this()


@pytest.mark.parametrize("kind", BatchKind)
def test_batches_of_every_kind_come(kind: BatchKind) -> None:
    def wanted(batch: Batch) -> bool:
        mixed = {type(statement.query) for statement in batch.statements}
        return batch.kind is kind and mixed == {str, bytes}

    assert comes(requests(V5, Batch), wanted)


@VERSIONS
def test_a_keyspace_and_a_time_come_with_every_message_that_has_them(
    version: ProtocolVersion,
) -> None:
    found = comes if version is V5 else never_comes
    assert found(requests(version, Prepare), lambda prepare: prepare.keyspace is not None)
    assert found(requests(version, Batch), lambda batch: batch.keyspace is not None)
    assert found(requests(version, Batch), lambda batch: batch.now_in_seconds is not None)


@VERSIONS
def test_startup_asks_for_no_compression_that_the_version_lacks(version: ProtocolVersion) -> None:
    def snappy(message: Startup) -> bool:
        return message.options.get("COMPRESSION") == "snappy"

    def lz4(message: Startup) -> bool:
        return message.options.get("COMPRESSION") == "lz4"

    assert comes(requests(version, Startup), lz4)
    if version is V5:
        assert never_comes(requests(version, Startup), snappy)
    else:
        assert comes(requests(version, Startup), snappy)


def test_a_response_is_no_request() -> None:
    wrong: Any = Error
    with pytest.raises(InvalidArgument, match="must be classes of requests, got Error"):
        requests(V4, wrong)


def test_the_examples_run() -> None:
    run_examples(client_messages, "query_parameters", "requests")
