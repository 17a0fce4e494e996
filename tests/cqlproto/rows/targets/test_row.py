"""Rows: tuples whose columns are also attributes and keys."""

from __future__ import annotations

import collections
import copy
import importlib.util
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.rows import Row
from cqlproto.rows.targets import row as row_module
from tests.support.int_rows import one

INT = NATIVE_TYPES["int"]


# -- Row


def test_a_row_is_a_tuple_with_names() -> None:
    row = one("id", "name")
    assert row == (1, 2)
    assert hash(row) == hash((1, 2))
    assert (row.id, row.name) == (row["id"], row["name"]) == (row[0], row[-1]) == (1, 2)
    assert row[:1] == (1,)
    assert [*row] == [1, 2]
    assert len(row) == 2
    identity, name = row
    assert (identity, name) == (1, 2)
    assert row._fields == ("id", "name")
    assert row._asdict() == {"id": 1, "name": 2}
    assert repr(row) == "Row(id=1, name=2)"


def test_a_row_cannot_be_changed() -> None:
    row = one("id")
    with pytest.raises((AttributeError, TypeError)):
        row.id = 2
    with pytest.raises(AttributeError):
        row.other = 2
    assert not hasattr(row, "__dict__")


@pytest.mark.parametrize(
    "name", ["count", "index", "mro", "items", "values", "self", "class", "a b", "", "é"]
)
def test_names_that_are_taken_or_odd_are_columns(name: str) -> None:
    row = one("x", name, "z")
    assert getattr(row, name) == row[name] == 2
    assert (row["x"], row["z"]) == (1, 3)
    assert row._asdict() == {"x": 1, name: 2, "z": 3}
    assert pickle.loads(pickle.dumps(row))[name] == 2


@pytest.mark.parametrize("name", ["_fields", "_asdict", "__class__", "__len__", "_", "__new__"])
def test_a_name_with_an_underscore_is_a_key_only(name: str) -> None:
    row = one(name, "b")
    assert row[name] == 1
    assert len(row) == 2
    assert isinstance(row, Row)
    assert row._fields == (name, "b")
    assert row._asdict() == {name: 1, "b": 2}
    assert copy.deepcopy(row) == row


@pytest.mark.parametrize("name", ["keys", "items", "values", "count", "_fields", "get", "a b"])
def test_a_row_is_taken_for_a_mapping_whatever_its_columns_are_called(name: str) -> None:
    row = one("id", name)
    expected = {"id": 1, name: 2}
    assert dict(row) == {**row} == row._asdict() == expected
    assert [*row.keys()] == ["id", name]  # the method
    assert dict(**row) == expected
    assert name in row
    assert "other" not in row
    assert 2 in row
    assert 3 not in row
    assert None not in row
    assert pickle.loads(pickle.dumps(row)).keys() == ("id", name)


def test_of_equal_names_a_dict_has_the_first() -> None:
    row = one("a", "b", "a")
    assert dict(row) == row._asdict() == {"a": 1, "b": 2}
    assert [*row._asdict()] == ["a", "b"]


def test_no_such_column() -> None:
    row = one("id", "name")
    text = "no column 'nmae', the row has id, name"
    with pytest.raises(AttributeError, match=text):
        _ = row.nmae
    with pytest.raises(KeyError, match=text):
        row["nmae"]
    with pytest.raises(IndexError):
        row[2]
    with pytest.raises(TypeError):
        row[1.5]
    with pytest.raises(AttributeError, match="the row has none"):
        _ = one().id


def test_of_two_columns_of_one_name_the_first_has_it() -> None:
    row = one("a", "b", "a")
    assert row == (1, 2, 3)
    assert row.a == row["a"] == 1


@given(st.lists(st.text(max_size=5), max_size=5))
def test_any_names_do(names: list[str]) -> None:
    row = one(*names)
    for index, name in enumerate(names):
        first = names.index(name)
        assert row[name] == row[index] - (index - first)
        if not name.startswith("_") and name != "keys":
            assert getattr(row, name) == row[name]
    for again in (
        pickle.loads(pickle.dumps(row)),
        pickle.loads(pickle.dumps(row, 0)),
        copy.copy(row),
        copy.deepcopy(row),
    ):
        assert type(again) is type(row)
        assert again == row
        assert again._fields == row._fields == tuple(names)


def test_rows_where_tuples_have_no_getter_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Python without CPython's getter for namedtuple, simulated by a copy of the module."""
    monkeypatch.delattr(collections, "_tuplegetter")
    spec = importlib.util.spec_from_file_location("row_again", row_module.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    row = module.row_class(("id", "count"))([1, 2])
    assert (row.id, row["id"], row.count, row[1]) == (1, 1, 2, 2)
    with pytest.raises(AttributeError):
        row.id = 2


def test_rows_of_the_same_columns_share_their_class() -> None:
    assert type(one("a", "b")) is type(one("a", "b"))
    assert type(one("a", "b")) is not type(one("b", "a"))
