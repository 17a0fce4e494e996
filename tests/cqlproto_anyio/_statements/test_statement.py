"""Prepared statements: outdating and renewing them; USE is refused."""

from __future__ import annotations

import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto_anyio._statements.statement import refuse_use
from tests.support.replies import V4
from tests.support.statements import statement


def test_use_is_refused() -> None:
    with pytest.raises(cql.UsageError, match="keyspace="):
        refuse_use("/* sly */ uSe ks")
    refuse_use("SELECT 'USE' FROM t")


def test_what_is_outdated_stays_so_until_it_is_prepared_anew() -> None:
    """Its pages may be read meanwhile, also over connections of another version."""
    one = statement("INSERT INTO t (a) VALUES (?)", "a")
    assert one.fast_path
    one.outdate()
    one.set_version(ProtocolVersion.V5)
    one.set_version(V4)
    assert (one.stale, one.fast_path) == (True, False)
    one.renew(one.prepared)
    assert (one.stale, one.fast_path) == (False, True)
    conditional = statement("INSERT INTO t (a) VALUES (?) IF NOT EXISTS", "a")
    conditional.outdate()
    conditional.renew(conditional.prepared)
    assert not conditional.fast_path
