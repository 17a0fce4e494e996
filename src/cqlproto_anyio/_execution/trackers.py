"""The latencies that each speculation policy has observed in a session."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from cqlproto_anyio._checks.callables import Report
from cqlproto_anyio.policies.checked import tracker_of

if TYPE_CHECKING:
    from cqlproto_anyio.policies.speculation import Speculation, Tracker

__all__ = ["Trackers"]

# A program has a handful of policies, unless it makes one for each call.
_MAX_TRACKERS = 64


class Trackers:
    """One tracker per speculation policy, for the most recently used policies."""

    __slots__ = ("_report", "_trackers")

    def __init__(self) -> None:
        self._report = Report("the speculation policy")
        # The policy is kept with its tracker, so that its id is not used again.
        self._trackers: OrderedDict[object, tuple[Speculation, Tracker]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._trackers)

    def of(self, speculation: Speculation) -> Tracker | None:
        """Return the tracker of a policy, made on first use; None if the policy raises."""
        key: object = speculation
        try:
            known = self._trackers.get(key)
        except TypeError:  # not hashable: each object is a policy of its own
            key = id(speculation)
            known = self._trackers.get(key)
        except BaseException as exc:  # raised by its __hash__ or __eq__
            self._report(exc)
            return None
        if known is not None:
            self._trackers.move_to_end(key)
            return known[1]
        tracker = tracker_of(speculation, self._report)
        if tracker is not None:
            self._trackers[key] = (speculation, tracker)
            if len(self._trackers) > _MAX_TRACKERS:
                self._trackers.popitem(last=False)
        return tracker
