"""Schema agreement: waiting until the nodes have the same schema.

A change of the schema spreads by gossip, and a node that has not heard of it refuses statements on
what is new. Its version is in the system tables; what one node says of its peers is enough, once it
says something of each: a node that has just started serves requests before it has heard of any.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import anyio

from cqlproto.exceptions import ProtocolError, ValueConversionError
from cqlproto_anyio.exceptions import CQLError, DatabaseError, InvalidQuery
from cqlproto_anyio.policies.backoff import backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from cqlproto_anyio._cluster.system_tables import SystemTables

__all__ = ["agree"]

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.2  # seconds between two looks
PATIENCE = 5  # how many answers in a row may be of no use


async def agree(
    tables: Callable[[], SystemTables | None],
    hosts_up: Callable[[], Iterable[UUID]],
    timeout: float,
) -> bool:
    """Wait until the nodes that are up have the schema of the one that is asked.

    Arguments:
        tables: returns whom to ask now, if anybody.
        hosts_up: returns the hosts whose schema matters now. One of which the version isn't told
            has not agreed.
        timeout: how long to wait, in seconds.

    Returns:
        whether they have it; False at once if the server doesn't tell schema versions, and soon if
        it answers with something else again and again.
    """
    useless = 0  # answers in a row that tell nothing
    agreed: object = None  # what they had at the last look, if it was one and the same
    with anyio.move_on_after(timeout):
        for reading in count(1):
            before, agreed = agreed, None
            asked = tables()
            if asked is not None:
                try:
                    mine, versions = await asked.schema_versions()
                except InvalidQuery:
                    return False
                except (DatabaseError, ProtocolError, ValueConversionError):
                    useless += 1
                    if useless == PATIENCE:
                        return False
                except CQLError:
                    pass  # another node is asked the next time, if this one is gone
                else:
                    useless = 0
                    if mine is not None and all(versions.get(each) == mine for each in hosts_up()):
                        # once more: a node may tell of a change before it tells its new version
                        if mine == before:
                            return True
                        agreed = mine
            await anyio.sleep(backoff(FIRST_PAUSE, reading, LONGEST_PAUSE))
    return False
