"""The benchmark's part about recipes: the clients' works in turns, memory, gates and tables."""

from __future__ import annotations

import functools
import statistics
from typing import TYPE_CHECKING, Any

from bench import figures
from bench.jobs import Job
from bench.parts import Gate
from bench.patterns.work import KEPT, WORKS
from bench.rounds import interleaved, workers
from bench.rounds import measure as measure_alone

if TYPE_CHECKING:
    from bench.jobs import Outcome
    from bench.parts import Context

OURS, NAIVE = "recipes/asyncio", "naive/rsylla"
_MOST_ROUNDS = 3
_WORKERS = (8, 64)
_KEYS, _QUICK_KEYS, _AT_ONCE = 100_000, 1_000, 128
_MOST_MIB = 8.0
_TRIPS = {"lock": 2.1, "sliding_window": 1.1, "append": 1.1, "hit": 1.1}  # first uses cost more


def measure(context: Context) -> dict[str, Any]:
    """Measure all works of all clients in turns, and then the memory of the recipes."""
    assert context.cassandra is not None
    host, port = context.cassandra
    clients = context.present((OURS, NAIVE))
    seconds, rounds = context.seconds / 2, min(context.rounds, _MOST_ROUNDS)
    keys = _QUICK_KEYS if context.quick else _KEYS
    job = functools.partial(Job, work="recipe", host=host, port=port, seconds=seconds)
    left_out: dict[str, str] = {}

    def failed(job: Job, text: str) -> None:
        what = f"{job.client}, {WORKS[job.recipe].what} by {job.in_flight}"
        left_out[what] = text
        context.problem(f"patterns, {what}: {text}")

    places = [(1, False), *((each, one) for each in _WORKERS for one in (False, True))]
    cells = [
        [
            job(client, recipe=name, in_flight=each, one_key=one, operations=each * work.slow)
            for client in clients
        ]
        for name, work in WORKS.items()
        for each, one in ([(1, False), (_WORKERS[0], True)] if work.slow else places)
        if work.shared or not one
    ]
    many = functools.partial(job, OURS, work="keys", in_flight=_AT_ONCE, operations=keys)
    of_keys = [[many(recipe=name)] for name in KEPT if OURS in clients]
    measure_alone(Job(OURS, "setup", host, port))
    try:
        with workers((host, port)) as them:

            def run(job: Job) -> Outcome:
                context.say(f"patterns: {job.client}, {WORKS[job.recipe].what} by {job.in_flight}")
                return (measure_alone if job.work == "keys" else them.measure)(job)

            samples = interleaved(cells, rounds, run, failed)
        memory = interleaved(of_keys, 1, run, failed)
    finally:
        measure_alone(Job(OURS, "drop", host, port))
    kept = [sample.to_json() for sample in memory]
    return {**figures.of_samples(samples, left_out), "keys": keys, "memory": kept}


def gates(data: dict[str, Any]) -> list[Gate]:
    """Return gates on wrong results, on round trips without contention, and on memory."""
    samples = [each for each in data["samples"] if each["client"] == OURS]
    wrong = sum(sum(each["wrong"]) for each in samples)
    result = [Gate("recipes, wrong results of all operations", 0, wrong)] if samples else []
    for each in samples:
        if each["in_flight"] == 1 and (most := _TRIPS.get(each["recipe"])):
            what = f"recipes, round trips, {WORKS[each['recipe']].what}"
            result.append(Gate(what, most, statistics.median(each["requests"])))
    for each in data["memory"]:
        what = f"recipes, MiB more for {data['keys']:,} keys, {WORKS[each['recipe']].what}"
        result.append(Gate(what, _MOST_MIB, each["peak_mib"][0] - each["before_mib"][0]))
    return result


_TEXT = """\
The recipes on one node, beside what cookbooks do instead, written for rsylla: look first, then act.
The workers are tasks of two programs, which know nothing of each other, with keys of their own or
with *one key*. The same checks judge both: *wrong* counts the wrong results of a client in all
rounds. The recipes have none, as a gate above says. A round trip is a request that the server has
counted on the connections of the process. A ratio is the median of the rounds' ratios. A look and
a write cost less than a conditional write, which takes four rounds between replicas, so what is
wrong is often faster.
"""
_HEAD = ("operation", "workers", "a second", "trips", "naive, a second", "trips", "ratio", "wrong")
_WHEN = ("before", "peak")
_MEMORY = """\
### Memory over many keys

The resident set of a new process that uses each of {keys:,} keys once, {at_once} at a time: after
a tenth of them, and its peak after that.
"""


def markdown(data: dict[str, Any]) -> str:
    """Return the text and the tables."""
    cells: dict[tuple[str, int, bool], dict[str, Any]] = {}
    for each in data["samples"]:
        place = each["recipe"], each["in_flight"], each["one_key"]
        cells.setdefault(place, {})[each["client"]] = each
    rows = [
        (
            WORKS[recipe].what,
            f"{workers}, one key" if one_key else str(workers),
            *_figures(found.get(OURS)),
            *_figures(found.get(NAIVE)),
            _ratio(found),
            _wrong(found.get(NAIVE)),
        )
        for (recipe, workers, one_key), found in cells.items()
    ]
    memory = [
        [WORKS[each["recipe"]].what, *(figures.number(each[f"{when}_mib"][0]) for when in _WHEN)]
        for each in data["memory"]
    ]
    parts = [
        _TEXT,
        figures.table(_HEAD, rows, 2),
        figures.left_out(data),
        _MEMORY.format(keys=data["keys"], at_once=_AT_ONCE),
        figures.table(("recipe", "a tenth, MiB", "peak, MiB"), memory),
    ]
    return "\n".join(parts)


def _figures(sample: dict[str, Any] | None) -> tuple[str, str]:
    if sample is None:
        return figures.NOTHING, figures.NOTHING
    return figures.spread(sample["rate"]), f"{statistics.median(sample['requests']):.2f}"


def _ratio(found: dict[str, dict[str, Any]]) -> str:
    if len(found) < 2:
        return figures.NOTHING
    pairs = zip(found[OURS]["rate"], found[NAIVE]["rate"], strict=False)
    return f"{statistics.median(one / other for one, other in pairs):.2f}"


def _wrong(naive: dict[str, Any] | None) -> str:
    if naive is None or not (what := WORKS[naive["recipe"]].wrong):
        return figures.NOTHING
    wrong = sum(naive["wrong"])
    return f"{wrong:,} of {naive['count'] * len(naive['wrong']):,}: {what}" if wrong else "0"
