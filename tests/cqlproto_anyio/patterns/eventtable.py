"""The tables of an event store, as a server keeps them, behind a faulty network."""

from __future__ import annotations

from typing import Any

from tests.support.scripted import Request, Scripted, lost, refusal

__all__ = ["EventTable"]

COLUMNS = ("type", "data", "metadata", "recorded_at")


class EventTable:
    """The partitions of streams, snapshots and positions.

    Attributes:
        heads, sizes: the static columns of each partition, by stream and bucket.
        rows: the events of each partition, by version.
        marks: the version of each event, by its id, of each partition.
        faults: one for each conditional request in turn: ``reply`` (executed, but not told),
            ``request`` (never arrives), ``late`` (arrives with :meth:`deliver`), or None.
    """

    def __init__(self, *faults: str | None) -> None:
        self.heads: dict[Any, int] = {}
        self.sizes: dict[Any, int] = {}
        self.latest: dict[str, int] = {}
        self.rows: dict[Any, dict[int, dict[str, Any]]] = {}
        self.marks: dict[Any, dict[Any, int]] = {}
        self.snapshots: dict[str, dict[int, bytes]] = {}
        self.positions: dict[Any, int] = {}
        self.faults: list[Any] = list(faults)
        self.late: list[Request] = []
        self.executor = Scripted(self.answer)

    def answer(self, request: Request) -> Any:
        if not request.conditional:
            return self.plain(request)
        fault = self.faults.pop(0) if self.faults else None
        if fault == "late":
            self.late.append(request)
        elif fault != "request":
            answer = self.save(request) if "positions" in request.text else self.append(request)
            if fault is None:
                return answer
        return lost()

    def deliver(self) -> None:
        """Let the requests that are under way arrive."""
        while self.late:
            self.append(self.late.pop(0))

    def append(self, request: Request) -> Any:
        (_, first), *others = request.statements
        place = first["stream"], first["bucket"]
        head, size = self.heads.get(place), self.sizes.get(place)
        marks = self.marks.setdefault(place, {})
        inserts, marked = others[::2], others[1::2]
        known = [values["id"] for _, values in marked if values["id"] in marks]
        before = first.get("before")
        if known or before != head or (before is not None and first["size"] != size):
            static = {"head": head, "size": size}
            rows = [{"version": 0, "id": id, "at": marks[id], **static} for id in known]
            none = [] if head is None else [{"version": None, "id": None, "at": None, **static}]
            return refusal(rows or none)
        self.heads[place], self.sizes[place] = first["head"], first["size"]
        for (_, values), (_, mark) in zip(inserts, marked, strict=True):
            assert values["version"] == mark["version"]
            assert values["id"] == mark["id"]
            self.rows.setdefault(place, {})[values["version"]] = values
            marks[values["id"]] = values["version"]
        return True

    def save(self, request: Request) -> Any:
        values = request.values
        key = values["name"], values["stream"]
        found = self.positions.get(key)
        if "null" in request.text and found is not None:
            return refusal([{"version": found}])
        if "< :version" in request.text and (found is None or found >= values["version"]):
            return refusal([{"version": found}])
        self.positions[key] = values["version"]
        return True

    def plain(self, request: Request) -> Any:
        text, values = request.text, request.values
        stream = values["stream"]
        if "_positions" in text:
            found = self.positions.get((values["name"], stream))
            return [] if found is None else [{"version": found}]
        if "_snapshots" in text:
            return self.snapshot(text, values)
        if text.startswith("UPDATE"):
            self.latest[stream] = values["latest"]
            return None
        place = stream, values["bucket"]
        static = {"head": self.heads.get(place), "size": self.sizes.get(place)}
        if "version = 0" in text:
            marks = self.marks.get(place, {})
            found_ids = [id for id in values["ids"] if id in marks]
            return [{**static, "version": 0, "id": id, "at": marks[id]} for id in found_ids]
        if "latest" in text:
            latest = self.latest.get(stream) if place[1] == 0 else None
            return [] if static["head"] is None else [{**static, "latest": latest}]
        rows = sorted(self.rows.get(place, {}).items())
        return [
            {
                "size": static["size"],
                "version": version,
                "id": row["id"],
                **{name: row[name] for name in COLUMNS},
            }
            for version, row in rows
            if version >= values["version"]
        ]

    def snapshot(self, text: str, values: Any) -> Any:
        found = self.snapshots.setdefault(values["stream"], {})
        if text.startswith("INSERT"):
            found[values["version"]] = values["state"]
        elif text.startswith("DELETE"):
            for version in [each for each in found if each < values["version"]]:
                del found[version]
        elif found:
            return [{"version": max(found), "state": found[max(found)]}]
        return None
