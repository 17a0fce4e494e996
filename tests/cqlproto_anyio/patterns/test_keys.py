"""Keys of rows: bare values, tuples, mappings."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from cqlproto_anyio.patterns import InvalidInput
from cqlproto_anyio.patterns._keys import row_key


class Place(NamedTuple):
    team: str
    id: int


@pytest.mark.parametrize("key", [("blue", 2), {"id": 2, "team": "blue"}, Place("blue", 2)])
def test_a_key_of_two_columns(key: Any) -> None:
    assert row_key(["team", "id"], key) == ("blue", 2)


@pytest.mark.parametrize("key", [7, (7,), {"id": 7}])
def test_a_key_of_one_column(key: Any) -> None:
    assert row_key(["id"], key) == (7,)


def test_falsy_values_are_values() -> None:
    assert row_key(["id"], 0) == (0,)
    assert row_key(["id"], "") == ("",)


@pytest.mark.parametrize(
    "key", ["blue", ("blue",), ("blue", 2, 3), {"team": "blue"}, {}, (), None, ("blue", None)]
)
def test_wrong_keys(key: Any) -> None:
    with pytest.raises(InvalidInput, match="key must be the values of team, id") as info:
        row_key(["team", "id"], key)
    assert info.value.name == "key"
    with pytest.raises(InvalidInput):
        row_key(["team", "id"], {"team": "blue", "id": 2, "more": 3})
