"""The public names of ``cqlproto.cqltypes``."""

from __future__ import annotations

import cqlproto.cqltypes


def test_all_names_are_there_and_in_order() -> None:
    names = cqlproto.cqltypes.__all__
    assert sorted(set(names)) == sorted(names)
    for name in names:
        assert hasattr(cqlproto.cqltypes, name)
