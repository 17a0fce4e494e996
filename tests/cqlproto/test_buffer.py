"""The buffer of the readers: no byte is lost, repeated or delayed, and few are copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from cqlproto._buffer import ReadBuffer

if TYPE_CHECKING:
    from collections.abc import Sequence


class Lines(ReadBuffer):
    """Items with their length in the first byte, as frames have it in the header."""

    __slots__ = ()

    def take(self) -> bytes | None:
        while True:
            data, pos = self._data, self._pos
            if len(data) > pos:
                stop = pos + 1 + data[pos]
                if stop <= len(data):
                    self._pos = stop
                    return data[pos + 1 : stop]
                needed = stop - pos
            else:
                needed = self._needed
            if not self._refill(needed):
                return None

    def all(self) -> list[bytes]:
        found = []
        while (item := self.take()) is not None:
            found.append(item)
        return found


def written(items: Sequence[bytes]) -> bytes:
    return b"".join(bytes((len(item),)) + item for item in items)


ITEMS = st.lists(st.binary(max_size=30), max_size=8)
SIZES = st.lists(st.integers(0, 40), max_size=30)


@given(ITEMS, SIZES, st.data())
def test_however_it_is_cut_and_whenever_it_is_read(
    items: list[bytes], sizes: list[int], data: st.DataObject
) -> None:
    stream = written(items)
    buffer = Lines()
    found: list[bytes] = []
    fed = 0
    for size in [*sizes, len(stream)]:
        piece = stream[fed : fed + size]
        fed += len(piece)
        buffer.feed(piece)
        if data.draw(st.booleans()):
            found += buffer.all()
        assert buffer.pending == fed - len(written(found))
    found += buffer.all()
    assert found == items
    assert buffer.pending == 0


@given(ITEMS, st.binary(max_size=30), st.integers(0, 60), st.integers(0, 3))
def test_what_is_left_can_be_taken_back(
    items: list[bytes], more: bytes, cut: int, count: int
) -> None:
    stream = written(items) + more
    buffer = Lines()
    buffer.feed(stream[:cut])
    found = [item for item in (buffer.take() for _ in range(count)) if item is not None]
    buffer.feed(stream[cut:])
    assert buffer.take_back() == stream[len(written(found)) :]
    assert buffer.pending == 0
    assert buffer.take() is None
    buffer.feed(b"\1!")
    assert buffer.all() == [b"!"]


def test_whole_items_are_parsed_where_they_lie() -> None:
    buffer = Lines()
    data = written([b"a", b"b"])
    buffer.feed(data)
    assert buffer._data is data
    assert buffer.all() == [b"a", b"b"]
