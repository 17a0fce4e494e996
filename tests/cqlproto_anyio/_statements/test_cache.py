"""The cache of prepared statements: its order and its bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from cqlproto_anyio._statements.cache import StatementCache
from tests.support.statements import statement

if TYPE_CHECKING:
    from cqlproto_anyio._statements.statement import Statement


@given(
    size=st.integers(1, 5),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 8)), max_size=60),
)
def test_the_cache_keeps_what_was_used_last(size: int, steps: list[tuple[bool, int]]) -> None:
    cache = StatementCache(size)
    model: list[str] = []
    made: dict[str, Statement] = {}
    for put, number in steps:
        query = f"SELECT {number} FROM t"
        if put:
            made[query] = statement(query)
            cache.put(query, made[query])
        else:
            assert cache.get(query) is (made[query] if query in model else None)
        if put or query in model:
            model = [other for other in model if other != query] + [query]
        model = model[-size:]
        assert len(cache) == len(model)
    for query in list(model):
        assert cache.get(query) is made[query]


def test_the_cache_keeps_no_more_text_than_a_few_megabytes() -> None:
    cache = StatementCache(1000)
    for number in range(40):
        one = statement(f"SELECT {number} FROM t -- ".ljust(1 << 20, "x"))
        for _ in range(2):
            cache.put(one.query, one)
        assert cache.characters == sum(len(each.query) for each in cache) <= 16 << 20
        assert cache.get(one.query) is one
    assert len(cache) == 16
    longest = statement("SELECT 1 FROM t -- ".ljust(17 << 20, "x"))
    cache.put(longest.query, longest)
    assert [*cache] == [longest]
    small = statement("SELECT 2 FROM t")
    cache.put(small.query, small)
    assert [*cache] == [small]
