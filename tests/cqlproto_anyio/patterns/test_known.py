"""The bounded memory of what was seen last."""

from __future__ import annotations

from cqlproto_anyio.patterns._known import Known


def test_the_least_recently_used_are_forgotten() -> None:
    known: Known[str, int] = Known(2)
    known.set("a", 1)
    known.set("b", 2)
    assert known.get("a") == 1
    known.set("c", 3)
    assert (known.get("a"), known.get("b"), known.get("c")) == (1, None, 3)
    known.set("a", 4)
    assert known.get("a") == 4
    known.set("a", None)
    known.set("a", None)
    assert (known.get("a"), len(known)) == (None, 1)


def test_memory_is_flat() -> None:
    known: Known[int, int] = Known(100)
    for each in range(10_000):
        known.set(each, each)
    assert len(known) == 100
