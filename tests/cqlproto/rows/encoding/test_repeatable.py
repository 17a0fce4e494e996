"""Values that can be packed any number of times."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto import EMPTY, UNSET, ValueConversionError
from cqlproto.cqltypes import NATIVE_TYPES, CustomType, ListType, NativeType
from cqlproto.cqltypes.packed import PackedCell
from cqlproto.rows import Binder
from cqlproto.rows.encoding.repeatable import Repeatable
from cqlproto.testing import cql_types, values_of
from tests.cqlproto.rows.encoding.test_binder import ONE, V4, prepared

INT = NATIVE_TYPES["int"]


@settings(max_examples=50)
@given(st.data())
def test_frames_are_the_same(data: st.DataObject) -> None:
    types = data.draw(st.lists(cql_types(max_leaves=3), max_size=4))
    nothing = st.sampled_from([None, UNSET])
    values = [data.draw(nothing | values_of(cql_type)) for cql_type in types]
    binder = Binder(prepared(*types), ONE, V4)
    kept = binder.repeatable(values)
    assert binder.frame(1, kept) == binder.frame(1, values)
    assert binder.cells(kept) == binder.cells(values)
    for value, before, cql_type in zip(kept, values, types, strict=True):
        if isinstance(cql_type, NativeType | CustomType) or before in (None, UNSET, EMPTY):
            assert value is before
        else:
            assert isinstance(value, PackedCell)


def test_each_is_read_once() -> None:
    repeatable = Repeatable(prepared(INT, ListType(INT)).bind.columns)
    assert repeatable
    kept = repeatable((1, iter([1, 2])))
    binder = Binder(prepared(INT, ListType(INT)), ONE, V4)
    plain = binder.frame(1, (1, [1, 2]))
    for again in (kept, repeatable(kept)):
        assert [binder.frame(1, again) for _ in range(3)] == [plain] * 3


def test_nothing_to_do_for_scalars() -> None:
    assert not Repeatable(prepared(INT, CustomType("x")).bind.columns)
    assert not Repeatable(())


def test_what_does_not_fit_is_named() -> None:
    repeatable = Repeatable(prepared(INT, ListType(INT)).bind.columns)
    with pytest.raises(ValueConversionError, match="column 'c1' .*element 0"):
        repeatable((1, ["x"]))
