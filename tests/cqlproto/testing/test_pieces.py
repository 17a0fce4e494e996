"""Pieces join to the bytes; corrupted bytes differ from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.testing import corrupted, every_split, noise, offsets, pieces, splits
from tests.cqlproto.testing.examples import comes, run_examples

DATA = bytes(range(10))


@given(st.binary(max_size=200), st.data())
def test_pieces_make_up_what_was_cut(data: bytes, more: st.DataObject) -> None:
    cut = more.draw(splits(data))
    assert b"".join(cut) == data
    assert all(cut)


@given(st.integers(0, 300), st.data())
def test_offsets_rise_and_lie_inside(size: int, more: st.DataObject) -> None:
    cuts = more.draw(offsets(size))
    assert cuts == sorted(set(cuts))
    assert all(0 < cut < size for cut in cuts)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10])
def test_few_and_many_pieces_come(count: int) -> None:
    assert comes(splits(DATA), lambda cut: len(cut) == count)


@pytest.mark.parametrize("offset", range(1, 10))
def test_every_cut_in_two_comes(offset: int) -> None:
    assert comes(offsets(10), lambda cuts: cuts == [offset])


@given(st.binary(max_size=50))
def test_every_split(data: bytes) -> None:
    found = list(every_split(data))
    assert [len(first) for first, _ in found] == list(range(len(data) + 1))
    assert all(first + second == data for first, second in found)


@given(st.binary(max_size=30), st.data())
def test_what_is_corrupted_differs(data: bytes, more: st.DataObject) -> None:
    assert more.draw(corrupted(data)) != data


def test_every_corruption_comes() -> None:
    assert comes(corrupted(DATA), lambda data: data == DATA[:4])
    assert comes(corrupted(DATA), lambda data: DATA.startswith(data) and len(data) == 9)
    assert comes(corrupted(DATA), lambda data: data.endswith(DATA) and len(data) > 10)
    assert comes(corrupted(DATA), lambda data: b"\xff\xff\xff\xff" in data)
    assert comes(corrupted(DATA), lambda data: b"\x7f\xff\xff\xff" in data)
    assert comes(corrupted(DATA), lambda data: b"\x03\x04\x03\x04" in data)
    assert comes(corrupted(DATA), lambda data: data[:3] + data[4:] == DATA[:3] + DATA[4:])
    assert comes(corrupted(b""), lambda data: len(data) == 4)


def test_noise_of_every_kind_comes() -> None:
    assert comes(noise(), lambda data: data.startswith(b"HTTP/1.1"))
    assert comes(noise(), lambda data: data.startswith(b"\x85\x00\x00\x00"))
    assert comes(noise(), lambda data: data.startswith(b"\x42\x00\x00\x00"))
    assert comes(noise(), lambda data: len(data) == 1)

    @given(noise())
    def never_empty(data: bytes) -> None:
        assert data

    never_empty()


def test_the_examples_run() -> None:
    run_examples(pieces, "corrupted", "every_split", "noise", "offsets", "splits")
