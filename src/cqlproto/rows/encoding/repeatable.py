"""Reading once what a statement is given, however often it is sent.

A statement may be packed several times: for a node that doesn't know it, for another node, for a
second attempt meanwhile, for each further page. A generator that is bound to a list has nothing
left by then, and a list may have changed. So what is bound to a collection, a tuple, a user-defined
type or a vector is packed before the first time, and its cell stands for it from then on. Scalars
stay as they are: a statement whose markers are all scalars is not looked at.
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
    """Makes the values of a statement such that they can be packed any number of times.

    It is false where there is nothing to do: all bind markers are scalars.

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
        """Return the values, with what is bound to other types than scalars packed.

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
