"""Schema agreement: wait until all nodes have the same schema version.

A change of the schema spreads by gossip, and a node that has not heard of it refuses statements
that need it. The schema versions are in the system tables. One node's tables are enough if they
have the version of each node that is up: a node that has just started serves requests before it
knows its peers.
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

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.2  # seconds between two readings
PATIENCE = 5  # how many answers in a row may be unusable


async def agree(
    tables: Callable[[], SystemTables | None],
    hosts_up: Callable[[], Iterable[UUID]],
    timeout: float,
) -> bool:
    """Wait until the nodes that are up have the schema version of the node that is asked.

    Arguments:
        tables: returns the system tables to read, or None while there is no connection.
        hosts_up: returns the hosts that must agree. A host without a version has not agreed.
        timeout: how long to wait, in seconds.

    Returns:
        whether they have agreed. False at once if the server has no schema versions, and after some
        readings if its answers are unusable.
    """
    unusable = 0  # answers in a row
    agreed: object = None  # the version that all had at the last reading
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
                    unusable += 1
                    if unusable == PATIENCE:
                        return False
                except CQLError:
                    pass  # if the connection is lost, another node is asked next time
                else:
                    unusable = 0
                    if mine is not None and all(versions.get(each) == mine for each in hosts_up()):
                        # read again: a node may report a change before its new version
                        if mine == before:
                            return True
                        agreed = mine
            await anyio.sleep(backoff(FIRST_PAUSE, reading, LONGEST_PAUSE))
    return False
