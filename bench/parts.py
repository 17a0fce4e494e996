"""The parts of the benchmark, and the context that they run in.

A part is a module with `measure`, `markdown`, `gates` and, if it has pictures, `plots`; the
functions at the end call these. Modules of this folder take a `Context`; packages take selected
fields of it as arguments. A part is imported when it is run or rendered.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import rounds
from bench.servers import Address, Canned

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


MODULES = {
    "canned": "bench.replayed",
    "live": "bench.live",
    "cluster": "bench.clustered",
    "hosts": "bench.hosts",
    "stream": "bench.streaming",
    "bulk": "bench.bulk",
    "patterns": "bench.patterns",
    "memory": "bench.memory",
    "codec": "bench.codec",
    "framing": "bench.framing",
    "sizes": "bench.sizes",
    "stages": "bench.stages",
    "import": "bench.imports",
}
TITLES = {
    "canned": "CPU of the client alone",
    "live": "One Cassandra, all clients",
    "cluster": "Three nodes",
    "hosts": "A large cluster",
    "stream": "A million rows",
    "bulk": "Loading a million rows",
    "patterns": "Recipes",
    "memory": "Memory",
    "codec": "Decoding and binding",
    "framing": "Framing",
    "sizes": "Cost against size",
    "stages": "Where the time goes",
    "import": "Import",
}
_OF_THEIR_OWN = {"codec", "framing"}
_OF_THEIR_OWN_ON_A_SERVER = {"sizes", "stages"}
NEED_CASSANDRA = {"canned", "live", "stream", "bulk", "patterns", "memory", "sizes", "stages"}
NEED_CANNED = {"canned", "bulk", "sizes", "stages"}

NEEDS = {
    "acsylla": "acsylla",
    "cassandra-driver": "cassandra",
    "rsylla": "rsylla",
    "scyllapy": "scyllapy",
    "coodie": "coodie",
    "trio": "trio",
    "uvloop": "uvloop",
}
PEERS = ("acsylla", "rsylla", "scyllapy", "coodie", "cassandra-driver", "scylla-driver")


class Gate(NamedTuple):
    """The limit of a figure: a maximum, or a minimum if `higher` is true."""

    what: str
    limit: float
    measured: float
    higher: bool = False

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.higher else self.measured <= self.limit


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """The arguments of a measurement. `problem` is called for each failure or omission."""

    rounds: int
    quick: bool
    seconds: float
    stream_rows: int
    clients: tuple[str, ...]
    say: Callable[[str], None]
    problem: Callable[[str], None]
    cassandra: Address | None = None
    canned: Canned | None = None

    def present(self, clients: Sequence[str]) -> list[str]:
        """Return the clients that are wanted and installed; report missing ones as problems."""
        wanted = [
            client
            for client in clients
            if not self.clients or any(fnmatch.fnmatch(client, each) for each in self.clients)
        ]
        for name in sorted({word for client in wanted for word in client.split("/")}):
            if not installed(name):
                self.problem(f"{name} is not installed: left out")
        return [client for client in wanted if all(map(installed, client.split("/")))]


def installed(name: str) -> bool:
    """Whether the package that a word in a client's name stands for is installed."""
    if name == "scylla-driver":
        return rounds.SCYLLA_DRIVER.is_dir()
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None


def _module(part: str) -> Any:
    return importlib.import_module(MODULES[part])


def measure(part: str, context: Context) -> dict[str, Any]:
    """Measure a part; return its data as JSON values."""
    module = _module(part)
    data: dict[str, Any]
    if part in _OF_THEIR_OWN:
        data = module.measure(context.rounds, context.quick, context.say)
    elif part in _OF_THEIR_OWN_ON_A_SERVER:
        assert context.canned is not None
        data = module.measure(context.rounds, context.quick, context.say, context.canned.address)
    else:
        data = module.measure(context)
    return data


def markdown(part: str, data: dict[str, Any]) -> str:
    """Return the text and the tables of a part."""
    text: str = _module(part).markdown(data)
    return text


def gates(part: str, data: dict[str, Any]) -> list[Gate]:
    """Return the gates of a part."""
    return [Gate(*gate) for gate in _module(part).gates(data)]


def plots(part: str, data: dict[str, Any], folder: Path) -> list[str]:
    """Write the pictures of a part; return their names."""
    function = getattr(_module(part), "plots", None)
    return list(function(data, folder)) if function is not None else []
