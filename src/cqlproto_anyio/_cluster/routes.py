"""What the selector knows of a statement: which pools have a replica of its partition."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto_anyio._network.pool import Pool
    from cqlproto_anyio._statements.statement import KeyFunction
    from cqlproto_anyio.policies.routing import Router

__all__ = ["Route"]


class Route:
    """How a statement is routed, as long as the hosts in use are the same.

    Arguments:
        router: what it was made for; another one needs another route.
        keyspace: of the statement's table.
        table: its name.
        key: returns the partition key of bound values, or None where hashing can't change the
            choice.
        replicas: returns the pools that have a token of a keyspace, of which any will do, or the
            first.
        primary_first: whether the first replica is preferred to the others.
        has_tablets: whether tablets of the table are known, which come before ``replicas``.
    """

    __slots__ = ("has_tablets", "key", "keyspace", "primary_first", "replicas", "router", "table")

    def __init__(
        self,
        router: Router[Pool],
        keyspace: str,
        table: str,
        key: KeyFunction | None,
        replicas: Callable[[str, int], tuple[Pool, ...]],
        *,
        primary_first: bool,
        has_tablets: bool,
    ) -> None:
        self.router = router
        self.keyspace = keyspace
        self.table = table
        self.key = key
        self.replicas = replicas
        self.primary_first = primary_first
        self.has_tablets = has_tablets
