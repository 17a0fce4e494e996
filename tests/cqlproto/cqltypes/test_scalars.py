"""The table of scalar types."""

from __future__ import annotations

import pytest

from cqlproto.cqltypes import NATIVE_TYPES, parse_type
from cqlproto.cqltypes.scalars import SCALARS, vector_width


def test_every_type_has_an_encoder_and_a_decoder() -> None:
    assert SCALARS.keys() == NATIVE_TYPES.keys()


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("int", 4),
        ("smallint", None),
        ("uuid", 16),
        ("text", None),
        ("vector<int, 3>", 12),
        ("vector<vector<double, 2>, 3>", 48),
        ("vector<text, 3>", None),
        ("list<int>", None),
    ],
)
def test_what_an_element_of_a_vector_takes(text: str, width: int | None) -> None:
    assert vector_width(parse_type(text)) == width
