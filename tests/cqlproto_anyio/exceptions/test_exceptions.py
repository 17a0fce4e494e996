"""The error tree of the client."""

from __future__ import annotations

import copy
import pickle

import pytest

import cqlproto_anyio as cql


def failed(host: str, stage: str = "connect", elapsed: float = 0.5) -> cql.ConnectionFailed:
    return cql.ConnectionFailed("as told", host=host, stage=stage, elapsed=elapsed)


def test_no_host_is_a_failed_connection() -> None:
    attempts = [failed("a:1", elapsed=2.0), failed("b:1", "handshake")]
    error = cql.NoHostAvailable(attempts)
    assert isinstance(error, cql.ConnectionFailed)
    assert isinstance(error, OSError)
    assert (error.host, error.stage, error.elapsed) == ("b:1", "handshake", 2.0)
    assert error.reason == "no host is available, 2 tried"
    assert error.attempts == tuple(attempts)
    lines = str(error).splitlines()
    assert lines[0] == "no host is available, 2 tried:"
    assert lines[1:] == [f"  ConnectionFailed: {each}" for each in attempts]


def test_no_host_of_none_and_of_other_failures() -> None:
    nobody = cql.NoHostAvailable([])
    assert (nobody.host, nobody.stage, nobody.elapsed, nobody.attempts) == ("", "connect", 0.0, ())
    other = cql.NoHostAvailable([failed("a:1"), LookupError("odd")])
    assert (other.host, other.stage, other.elapsed) == ("", "connect", 0.5)


@pytest.mark.parametrize("error", [failed("a:1"), cql.NoHostAvailable([failed("a:1")])])
def test_what_is_copied_is_the_same(error: cql.ConnectionFailed) -> None:
    error.maybe_applied = True
    for same in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(same) is type(error)
        assert str(same) == str(error)
        assert (same.host, same.stage, same.elapsed) == (error.host, error.stage, error.elapsed)
        assert same.reason == error.reason
        assert same.maybe_applied
        assert len(same.attempts) == len(error.attempts)
