"""Attempts at several nodes, started a little apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from cqlproto_anyio._cluster import racing
from cqlproto_anyio._cluster.racing import Race
from cqlproto_anyio._eventloop.auto import current_backend

if TYPE_CHECKING:
    from collections.abc import Callable


class Found:
    """The outcome of an attempt."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.complete = not place.startswith("poor")
        self.discarded = False

    def discard(self) -> None:
        self.discarded = True


class Nodes:
    """Nodes whose names begin with their behaviour.

    Attributes:
        began: the nodes that were tried, in order.
        found: the outcomes of the attempts.
        under_way: the number of attempts under way.
    """

    def __init__(self, at_once: int = 99) -> None:
        self.began: list[str] = []
        self.found: list[Found] = []
        self.under_way = self.most = 0
        self.race = Race(
            self.attempt,
            clock=current_backend().clock,
            protected=current_backend().protected,
            at_once=at_once,
            serious=lambda error: isinstance(error, KeyError),
        )

    async def attempt(self, place: str, progress: Callable[[], None]) -> Found:
        self.began.append(place)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if place.startswith("silent"):
                await anyio.sleep_forever()
            if place.startswith("hanging"):
                progress()
                await anyio.sleep_forever()
            if place.startswith("slow"):
                for _ in range(20):
                    progress()
                    await anyio.sleep(0.005)
            await anyio.lowlevel.checkpoint()
            if place.startswith("bad"):
                raise OSError(place)
            if place.startswith("serious"):
                raise KeyError(place)
        finally:
            self.under_way -= 1
        self.found.append(Found(place))
        return self.found[-1]

    async def run(self, *places: str) -> str | None:
        with anyio.fail_after(10):
            chosen = await self.race.run(places)
        assert self.under_way == 0
        for each in self.found:
            assert each.discarded is (each is not chosen)
        return None if chosen is None else chosen.place


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(racing, "STAGGER", 0.01)
    monkeypatch.setattr(racing, "READ_STAGGER", 0.05)
    monkeypatch.setattr(racing, "GRACE", 0.05)


async def test_one_that_works_is_the_only_one() -> None:
    nodes = Nodes()
    assert await nodes.run("good", "other", "third") == "good"
    assert nodes.began == ["good"]


async def test_the_next_follows_a_failure_at_once() -> None:
    nodes = Nodes()
    assert await nodes.run("bad 1", "bad 2", "good", "other") == "good"
    assert nodes.began == ["bad 1", "bad 2", "good"]
    assert [str(each) for each in nodes.race.failures] == ["bad 1", "bad 2"]


async def test_none_works() -> None:
    nodes = Nodes()
    assert await nodes.run("bad 1", "bad 2") is None
    assert await Nodes().run() is None


@pytest.mark.parametrize("kind", ["silent", "hanging"])
async def test_one_that_does_not_answer_holds_up_no_other(kind: str) -> None:
    nodes = Nodes()
    assert await nodes.run(f"{kind} 1", f"{kind} 2", "good", "other") == "good"
    assert nodes.began == [f"{kind} 1", f"{kind} 2", "good"]


async def test_as_long_as_one_gets_on_no_other_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(racing, "READ_STAGGER", 5.0)
    nodes = Nodes()
    assert await nodes.run("slow", "good") == "slow"
    assert nodes.began == ["slow"]


async def test_so_many_at_once() -> None:
    nodes = Nodes(at_once=2)
    with anyio.move_on_after(0.1):
        await nodes.run("silent 1", "silent 2", "good")
    assert nodes.began == ["silent 1", "silent 2"]
    assert nodes.under_way == 0


async def test_what_is_serious_ends_it() -> None:
    nodes = Nodes()
    with pytest.raises(KeyError):
        await nodes.run("silent", "serious", "good")
    assert "good" not in nodes.began
    assert nodes.under_way == 0


async def test_one_that_tells_everything_is_preferred() -> None:
    nodes = Nodes()
    assert await nodes.run("poor", "silent", "good") == "good"
    assert set(nodes.began) == {"poor", "silent", "good"}


async def test_one_that_does_not_is_better_than_none() -> None:
    nodes = Nodes()
    assert await nodes.run("poor 1", "silent", "bad", "poor 2") in {"poor 1", "poor 2"}


async def test_cancelled_it_leaves_nothing() -> None:
    nodes = Nodes()
    with anyio.move_on_after(0.02):
        await nodes.run("poor", "silent 1", "silent 2")
    assert nodes.under_way == 0
    assert all(each.discarded for each in nodes.found)
