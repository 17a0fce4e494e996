"""Clusters that Hypothesis makes up, and who holds what in them, found in the plainest way."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from hypothesis import strategies as st

from cqlproto.routing import MAX_TOKEN, MIN_TOKEN
from cqlproto_anyio._metadata.topology import Host
from cqlproto_anyio.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "DATACENTERS",
    "clusters",
    "host",
    "host_id",
    "network_replicas",
    "replication_options",
    "simple_replicas",
    "tokens",
    "worth_asking",
]

DATACENTERS = ("dc1", "dc2", "dc3")
RACKS = ("r1", "r2", "r3", "r4")
LOCATOR = "org.apache.cassandra.locator."

# Some that are close together, so that ranges are as short as can be, and the ends of all.
tokens = st.one_of(
    st.integers(MIN_TOKEN, MAX_TOKEN),
    st.integers(-5, 5),
    st.sampled_from([MIN_TOKEN, MIN_TOKEN + 1, MAX_TOKEN - 1, MAX_TOKEN]),
)


def host_id(number: int) -> UUID:
    return UUID(int=number + 1)


def host(
    number: int, datacenter: str = "dc1", rack: str = "r1", tokens: Sequence[int] = ()
) -> Host:
    return Host(host_id(number), Endpoint(f"10.0.0.{number + 1}"), datacenter, rack, tuple(tokens))


@st.composite
def clusters(draw: Callable[..., object], most: int = 12) -> list[Host]:
    """Hosts in up to three datacenters and up to four racks each; some may have no tokens."""
    # Few datacenters and racks as often as many, so that racks have several hosts.
    datacenters: int = draw(st.integers(1, 3))  # type: ignore[assignment]  # of this strategy
    racks: int = draw(st.integers(1, 4))  # type: ignore[assignment]  # likewise
    count: int = draw(st.integers(1, most))  # type: ignore[assignment]  # likewise
    place = st.tuples(st.sampled_from(DATACENTERS[:datacenters]), st.sampled_from(RACKS[:racks]))
    places: list[tuple[str, str]] = draw(  # type: ignore[assignment]  # likewise
        st.lists(place, min_size=count, max_size=count)
    )
    owned: dict[int, int] = draw(  # type: ignore[assignment]  # likewise
        st.dictionaries(tokens, st.integers(0, count - 1), min_size=count // 2, max_size=5 * count)
    )
    return [
        host(number, *each, [token for token, owner in owned.items() if owner == number])
        for number, each in enumerate(places)
    ]


def factors(transient: bool = True) -> st.SearchStrategy[str]:
    plain = st.one_of(st.integers(0, 5), st.integers(0, 14)).map(str)
    if not transient:
        return plain
    split = st.tuples(st.integers(1, 9), st.integers(0, 9)).filter(lambda pair: pair[0] > pair[1])
    return st.one_of(plain, split.map(lambda pair: f"{pair[0]}/{pair[1]}"))


def replication_options(transient: bool = True) -> st.SearchStrategy[dict[str, str]]:
    """Replication options as ``system_schema.keyspaces`` has them."""
    some = factors(transient)
    simple = st.builds(
        lambda factor: {"class": f"{LOCATOR}SimpleStrategy", "replication_factor": factor}, some
    )
    network = st.dictionaries(st.sampled_from([*DATACENTERS, "elsewhere"]), some).map(
        lambda datacenters: {"class": f"{LOCATOR}NetworkTopologyStrategy", **datacenters}
    )
    return st.one_of(simple, network)


def worth_asking(hosts: Sequence[Host]) -> list[int]:
    """Tokens of every range: the ends, what is next to them, and the lowest and highest."""
    ends = {token for host in hosts for token in host.tokens}
    near = {token + step for token in ends for step in (-1, 0, 1)}
    return sorted(
        token for token in near | {MIN_TOKEN, MAX_TOKEN} if MIN_TOKEN <= token <= MAX_TOKEN
    )


def upwards(hosts: Sequence[Host], token: int) -> list[Host]:
    """Each host that has tokens once, in the order in which they are met from a token upwards."""
    ring = sorted((end, place) for place, host in enumerate(hosts) for end in host.tokens)
    ring = [pair for pair in ring if pair[0] >= token] + [pair for pair in ring if pair[0] < token]
    return [hosts[place] for place in dict.fromkeys(place for _, place in ring)]


def read_factor(factor: str) -> tuple[int, int]:
    copies, _, transient = factor.partition("/")
    return int(copies), int(copies) - int(transient or 0)


def simple_replicas(hosts: Sequence[Host], token: int, factor: str) -> list[Host]:
    _, full = read_factor(factor)
    return upwards(hosts, token)[:full]


def network_replicas(hosts: Sequence[Host], token: int, datacenter: str, factor: str) -> list[Host]:
    """Replicas in one datacenter.

    The first host of each rack, and of all others the first as many as there are more replicas than
    racks, in the order of the ring.
    """
    copies, full = read_factor(factor)
    met = upwards([host for host in hosts if host.datacenter == datacenter], token)
    firsts = {host.rack: host for host in reversed(met)}.values()
    others = [host for host in met if host not in firsts]
    more = others[: max(copies - len(firsts), 0)]
    return [host for host in met if host in firsts or host in more][:full]
