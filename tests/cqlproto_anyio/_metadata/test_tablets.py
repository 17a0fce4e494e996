"""Tablets: parsed from a payload, kept in order and within limits, dropped when they are wrong.

The stored tablets are compared with a model that has every token of a small range.
"""

from __future__ import annotations

import struct
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cqlproto.cqltypes import EMPTY, encoder, parse_type
from cqlproto.exceptions import RemoteProtocolError
from cqlproto.routing import MAX_TOKEN, MIN_TOKEN
from cqlproto_anyio._metadata.tablets import Tablet, Tablets, read_tablet

encode = encoder(parse_type("tuple<bigint, bigint, list<tuple<uuid, int>>>"))
HOSTS = [UUID(int=number) for number in range(4)]

replica_lists = st.lists(
    st.tuples(st.sampled_from(HOSTS), st.integers(0, 3)), min_size=1, max_size=3
).map(tuple)


def tablets(lowest: int = MIN_TOKEN, highest: int = MAX_TOKEN) -> st.SearchStrategy[Tablet]:
    ends = st.lists(st.integers(lowest, highest), min_size=2, max_size=2, unique=True).map(sorted)
    return st.builds(lambda pair, held: Tablet(pair[0], pair[1], held), ends, replica_lists)


# --- the payload ----------------------------------------------------------------------------------


@given(tablets())
def test_payload(tablet: Tablet) -> None:
    assert read_tablet(encode((tablet.first, tablet.last, tablet.replicas))) == tablet


def test_bytes_of_a_payload() -> None:
    data = (
        struct.pack(">iqiq", 8, -100, 8, 200)
        + struct.pack(">ii", 4 + 4 + 4 + 16 + 4 + 4, 1)
        + struct.pack(">ii16sii", 28, 16, HOSTS[3].bytes, 4, 7)
    )
    assert read_tablet(data) == Tablet(-100, 200, ((HOSTS[3], 7),))


ONE = [(HOSTS[0], 1)]


@pytest.mark.parametrize(
    "value",
    [
        EMPTY,
        (1,),
        (1, 2),
        (1, 2, []),
        (2, 2, ONE),
        (2, 1, ONE),
        (None, 2, ONE),
        (1, None, ONE),
        (1, 2, None),
        (EMPTY, 2, ONE),
        (1, EMPTY, ONE),
        (1, 2, EMPTY),
        (1, 2, [EMPTY]),
        (1, 2, [(HOSTS[0],)]),
        (1, 2, [(None, 1)]),
        (1, 2, [(HOSTS[0], None)]),
        (1, 2, [(EMPTY, 1)]),
        (1, 2, [(HOSTS[0], EMPTY)]),
        (1, 2, [(HOSTS[0], -1)]),
    ],
    ids=repr,
)
def test_malformed_payload(value: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="tablet"):
        read_tablet(encode(value))


@given(st.binary(max_size=80))
@example(b"")
@example(encode((1, 2, ONE)) + b"\0")
@example(encode((1, 2, ONE))[:-1])
def test_any_bytes(data: bytes) -> None:
    try:
        tablet = read_tablet(data)
    except RemoteProtocolError:
        return
    assert tablet.first < tablet.last
    assert tablet.replicas


# --- storage --------------------------------------------------------------------------------------

LOW, HIGH = -12, 12
NAMES = st.sampled_from([("a", "t"), ("a", "u"), ("b", "t")])


class Remembering(RuleBasedStateMachine):
    """Learn, forget and look up tablets, compared with a dict from each token to its tablet."""

    def __init__(self) -> None:
        super().__init__()
        self.tablets = Tablets()
        self.model: dict[tuple[str, str], dict[int, Tablet]] = {}

    @rule(name=NAMES, tablet=tablets(LOW, HIGH))
    def learn(self, name: tuple[str, str], tablet: Tablet) -> None:
        self.tablets.learn(*name, tablet)
        noted = self.model.setdefault(name, {})
        inside = range(tablet.first + 1, tablet.last + 1)
        wrong = [noted[token] for token in inside if token in noted]
        for token in [token for token, each in noted.items() if any(each is one for one in wrong)]:
            del noted[token]
        noted.update(dict.fromkeys(inside, tablet))

    @rule(name=NAMES)
    def forget_table(self, name: tuple[str, str]) -> None:
        self.tablets.forget_table(*name)
        self.model.pop(name, None)

    @rule(keyspace=st.sampled_from("ab"))
    def forget_keyspace(self, keyspace: str) -> None:
        self.tablets.forget_keyspace(keyspace)
        self.model = {name: noted for name, noted in self.model.items() if name[0] != keyspace}

    @rule(host=st.sampled_from(HOSTS))
    def forget_host(self, host: UUID) -> None:
        self.tablets.forget_hosts({host})
        for noted in self.model.values():
            for token, tablet in list(noted.items()):
                if host in [held for held, _ in tablet.replicas]:
                    del noted[token]

    @invariant()
    def answers(self) -> None:
        known = 0
        for name in (("a", "t"), ("a", "u"), ("b", "t"), ("b", "u")):
            noted = self.model.get(name, {})
            for token in range(LOW - 1, HIGH + 2):
                expected = noted[token].replicas if token in noted else ()
                assert self.tablets.replicas(*name, token) == expected
            known += len({id(tablet) for tablet in noted.values()})
        assert len(self.tablets) == known


TestRemembering = Remembering.TestCase


@given(st.lists(st.tuples(NAMES, tablets(LOW, HIGH)), max_size=60), st.integers(1, 8))
def test_bound(learned: list[tuple[tuple[str, str], Tablet]], limit: int) -> None:
    bounded, free = Tablets(limit), Tablets()
    for name, tablet in learned:
        bounded.learn(*name, tablet)
        free.learn(*name, tablet)
        assert len(bounded) <= limit
        # Tablets that are still known are correct.
        for token in range(LOW, HIGH + 1):
            found = bounded.replicas(*name, token)
            assert found in ((), free.replicas(*name, token))


def test_the_table_that_learned_nothing_for_longest_goes_first() -> None:
    known = Tablets(limit=4)
    held = ((HOSTS[0], 0),)
    for place in range(2):
        for table in ("old", "new"):
            known.learn("ks", table, Tablet(place, place + 1, held))
    known.learn("ks", "old", Tablet(2, 3, held))
    assert known.replicas("ks", "new", 1) == ()
    assert [known.replicas("ks", "old", token) for token in (1, 2, 3)] == [held] * 3
    assert len(known) == 3


def test_equal_replicas_are_one_object() -> None:
    known = Tablets(limit=3)
    for place in range(3):
        known.learn("ks", "t", Tablet(place, place + 1, ((HOSTS[0], 0), (HOSTS[1], place // 2))))
    first, second, third = (known.replicas("ks", "t", token) for token in (1, 2, 3))
    assert first is second
    assert first != third
    # Shared objects are limited too.
    for shard in range(20):
        known.learn("ks", "t", Tablet(0, 3, ((HOSTS[0], shard),)))
        assert known.replicas("ks", "t", 2) == ((HOSTS[0], shard),)
        assert len(known._replicas) <= 4


def test_the_whole_ring() -> None:
    known = Tablets()
    held = ((HOSTS[1], 3),)
    known.learn("ks", "t", Tablet(MIN_TOKEN, MAX_TOKEN, held))
    assert known.replicas("ks", "t", MAX_TOKEN) == held
    assert known.replicas("ks", "t", MIN_TOKEN + 1) == held
    assert known.replicas("ks", "t", MIN_TOKEN) == ()
