"""Values that can be packed any number of times.

The values of a statement may be packed several times: for a node that does not know the statement,
for another node, for a speculative attempt, for each further page. By then a generator is consumed,
and a list may have changed. So a value of a collection, a tuple, a user-defined type or a vector is
encoded before the first attempt, and its cell replaces it. Scalars are unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes import CustomType, NativeType
from cqlproto.cqltypes.packed import READY, PackedCell
from cqlproto.rows.encoding.containers import binding_encoder
from cqlproto.rows.encoding.support import about_column
from cqlproto.wire import UNSET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqlproto.messages.results import Column

__all__ = ["Repeatable"]


class Repeatable:
    """Makes values repeatable: they can then be packed any number of times.

    It is false if there is nothing to do, since all bind markers are scalars.

    Arguments:
        columns: the bind markers, in order.
    """

    __slots__ = ("_containers",)

    def __init__(self, columns: Sequence[Column]) -> None:
        self._containers = [
            (index, column, binding_encoder(column.type))
            for index, column in enumerate(columns)
            if not isinstance(column.type, NativeType | CustomType)
        ]

    def __bool__(self) -> bool:
        return bool(self._containers)

    def __call__(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return the values, those of non-scalar types replaced by their cells.

        Arguments:
            values: one value per bind marker.

        Raises:
            ValueConversionError: a value doesn't fit its column.
        """
        made = list(values)
        for index, column, encode in self._containers:
            value = made[index]
            if value is None or value is UNSET or type(value) in READY:
                continue
            try:
                made[index] = PackedCell(encode(value), column.type)
            except Exception as exc:
                error = about_column(exc, column, value)
                raise error from error.__cause__
        return made
