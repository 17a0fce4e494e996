"""Sessions of users, such as web applications keep: tokens that expire, and can be revoked."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns._arguments import (
    MAX_TTL,
    SECOND,
    Clock,
    Seconds,
    micros,
    moment,
    seconds,
    text,
    utc_now,
)
from cqlproto_anyio.patterns._codec import JSON, Codec
from cqlproto_anyio.patterns._errors import InvalidInput
from cqlproto_anyio.patterns._lwt import Rows, Statement, Verdict, bound, conditional_write
from cqlproto_anyio.patterns._retry import Attempts, may_retry
from cqlproto_anyio.patterns._schema import TableSchema, create

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Sequence

    from cqlproto_anyio.executor import Executor

__all__ = ["UserSession", "UserSessions"]

_SECRET = 32  # bytes of a token that are random
_OWNER = 16  # bytes of a token that find its partition
_MOST_DATA = 1 << 20  # bytes
_BATCH = 100  # how many sessions one conditional batch destroys
_OFTEN = SECOND  # sessions are renewed no more often
_ATTEMPTS = 3

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class UserSession:
    """A session of a user.

    Attributes:
        id: the hash of the token, which is no token itself.
        user_id, ip, data: what was given to ``create``.
        created_at, expires_at: when it was created, and when it ends unless it is renewed.
    """

    id: str
    user_id: str
    ip: str | None
    data: Mapping[str, Any]
    created_at: datetime
    expires_at: datetime


class UserSessions:
    """Sessions by token: ``token = await sessions.create("ann")``, ``sessions.validate(token)``.

    Guarantee: a token has 256 random bits, and only its hash is stored. A session ends ``ttl``
    after it was last validated, to a second, and ``max_age`` after it was created. A session that
    was destroyed stays dead: requests that race with the end don't revive it.

    Not guaranteed: :meth:`destroy_all` ends the sessions that exist when it begins. Ends are
    compared on the clock of each program. The tokens of a user end alike, so one can tell that they
    are one user's. A ``create`` whose reply is lost may leave a session that nobody has a token of.

    Cost: ``create`` one LWT. ``validate`` one read, and one LWT if the session was renewed more
    than a second ago. ``destroy`` one LWT; ``list`` one read; ``destroy_all`` one read, and one LWT
    for each hundred sessions. All is in one partition for each user.

    Table: ``user_sessions``; rows expire.

    Arguments:
        ttl: how long a session lasts after each validation: a timedelta or seconds.
        max_age: how long it lasts at most, however often it is validated; None for no limit.
        codec: encodes the data; up to 1 MiB.
        clock: returns the current time.
    """

    def __init__(
        self,
        session: Executor,
        *,
        keyspace: str,
        table: str = "user_sessions",
        ttl: Seconds = 3600,
        max_age: Seconds | None = None,
        codec: Codec = JSON,
        clock: Clock = utc_now,
    ) -> None:
        self._session = session
        self._schema = _schema(keyspace, table)
        bounds = {"least": 0.001, "most": MAX_TTL - 2}
        self._ttl = round(seconds("ttl", ttl, **bounds) * SECOND)
        longest = None if max_age is None else seconds("max_age", max_age, **bounds)
        self._max_age = None if longest is None else round(longest * SECOND)
        self._codec = codec
        self._clock = clock
        name, columns = self._schema.name, list(self._schema.columns)
        one = "owner = :owner AND id = :id"
        renewed = ", ".join(f"{each} = :{each}" for each in columns[2:])
        self._insert = (
            f"INSERT INTO {name} ({', '.join(columns)}) VALUES (:{', :'.join(columns)})"
            " IF NOT EXISTS USING TTL :ttl"
        )
        self._of_user = f"SELECT {', '.join(columns)} FROM {name} WHERE owner = :owner"
        self._select = f"{self._of_user} AND id = :id"
        # Each column has a TTL of its own. Ends only move on, so that a late copy is refused.
        self._renew = (
            f"UPDATE {name} USING TTL :ttl SET {renewed} WHERE {one} IF expires_at < :expires_at"
        )
        self._delete = f"DELETE FROM {name} WHERE {one}"

    @classmethod
    def schema_cql(cls, keyspace: str, *, table: str = "user_sessions") -> tuple[str, ...]:
        """Return the statements that :meth:`create_schema` executes."""
        return (_schema(keyspace, table).cql(),)

    async def create_schema(self) -> None:
        """Create the table unless it exists, and wait until all nodes know it."""
        await create(self._session, [self._schema])

    async def create(
        self, user_id: str, *, ip: str | None = None, data: Mapping[str, Any] | None = None
    ) -> str:
        """Create a session and return its token, which is URL-safe.

        Arguments:
            user_id: the user.
            ip, data: what to remember: an IP address, and a mapping for the codec.
        """
        values: Row = {"user_id": text("user_id", user_id), "owner": _owner(user_id)}
        try:  # an int, or bytes, would be an address too
            values["ip"] = None if ip is None else ipaddress.ip_address(text("ip", ip))
        except ValueError as exc:
            raise InvalidInput("ip", "an IP address", ip) from exc
        if not isinstance(data, Mapping | None):
            raise InvalidInput("data", "a mapping", data)
        values["data"] = self._codec.dump("data", dict(data or {}), most=_MOST_DATA)
        values |= self._renewal(micros(self._clock))
        async for number in Attempts(most=_ATTEMPTS):
            # A new token each time: whatever becomes of the earlier ones, nobody has them.
            token = secrets.token_bytes(_SECRET) + values["owner"]
            try:
                await self._session.execute(*bound(self._insert, {**values, "id": _hash(token)}))
                break
            except CQLError as error:
                if number == _ATTEMPTS or not may_retry(error, idempotent=True):
                    raise
        return base64.urlsafe_b64encode(token).decode()

    async def validate(self, token: str, *, touch: bool = True) -> UserSession | None:
        """Return the session of a token; None if there is none, or no longer.

        Arguments:
            token: what ``create`` returned, or anything else that a client has sent.
            touch: whether to renew the session.
        """
        key = _key(token)
        row = None if key is None else (await self._session.execute(self._select, key)).first()
        at = micros(self._clock)
        if row is None or row.expires_at <= at:
            return None
        values: Row = row._asdict()
        if touch:
            renewal = self._renewal(at, row.created_at)
            if renewal["expires_at"] - row.expires_at >= min(_OFTEN, self._ttl // 10):
                values |= renewal
                renewed = partial(_renewed, values["expires_at"])
                if not await self._change(values, [bound(self._renew, values)], renewed):
                    return None
        return self._found(values)

    async def destroy(self, session: str | UserSession) -> bool:
        """End a session, or that of a token; False if there was none.

        Raises:
            OutcomeUnknown: it isn't known whether it has ended.
        """
        key = _key(session)
        return key is not None and await self._end([key])

    async def destroy_all(self, user_id: str) -> int:
        """End all sessions of a user, and return how many there were."""
        ended = 0
        while rows := (await self._rows(user_id))[:_BATCH]:
            if await self._end(rows):
                at = micros(self._clock)
                ended += sum(row["expires_at"] > at for row in rows)
        return ended

    async def list(self, user_id: str) -> builtins.list[UserSession]:
        """Return the sessions of a user, the oldest first."""
        at = micros(self._clock)
        return [self._found(row) for row in await self._rows(user_id) if row["expires_at"] > at]

    async def _rows(self, user_id: str) -> builtins.list[Row]:
        """Return what is stored of a user, also what has ended by this program's clock."""
        owner = {"owner": _owner(text("user_id", user_id))}
        rows = (await self._session.execute(self._of_user, owner)).rows
        found = [row._asdict() for row in rows if row.user_id == user_id]
        return sorted(found, key=lambda row: row["created_at"])

    async def _end(self, keys: builtins.list[Row]) -> bool:
        """Delete sessions of one user; nothing if the first of them is not there."""
        statements = [bound(self._delete, key) for key in keys]
        statements[0] = bound(f"{self._delete} IF EXISTS", keys[0])
        return await self._change(
            keys[0], statements, lambda rows: Verdict.OPEN if rows else Verdict.APPLIED
        )

    async def _change(
        self, key: Row, statements: Sequence[Statement], verdict: Callable[[Rows], Verdict]
    ) -> bool:
        """Execute a conditional write; False if the session is not there."""
        read, what = bound(self._select, key), f"change of session {key['id']}"
        outcome = await conditional_write(
            self._session, statements, operation=uuid4(), read=read, verdict=verdict, what=what
        )
        return outcome.applied or bool(outcome.row)  # a row: it is renewed for longer already

    def _renewal(self, at: int, created_at: int | None = None) -> dict[str, int]:
        """Return the columns of a session that is created or renewed now."""
        created_at = at if created_at is None else created_at
        end = at + self._ttl
        if self._max_age is not None:
            end = min(end, created_at + self._max_age)
        ttl = -(-(end - at) // SECOND) + 1  # servers count whole seconds
        return {"created_at": created_at, "expires_at": end, "ttl": ttl}

    def _found(self, row: Row) -> UserSession:
        data = self._codec.load(f"the data of session {row['id']}", row["data"])
        ip = None if row["ip"] is None else str(row["ip"])
        began, ends = moment(row["created_at"]), moment(row["expires_at"])
        return UserSession(row["id"], row["user_id"], ip, data, began, ends)


def _renewed(end: int, rows: Rows) -> Verdict:
    if not rows:
        return Verdict.REFUSED
    return Verdict.APPLIED if rows[0]["expires_at"] >= end else Verdict.OPEN


def _schema(keyspace: str, table: str) -> TableSchema:
    columns = {"owner": "blob", "id": "text", "user_id": "text", "ip": "inet", "data": "blob"}
    columns |= {"created_at": "bigint", "expires_at": "bigint"}  # in microseconds
    return TableSchema(keyspace, table, columns, key=("owner",), clustering=("id",))


def _hash(token: bytes) -> str:
    return hashlib.sha256(token).hexdigest()


def _owner(user_id: str) -> bytes:
    """Return the partition of a user, which tokens bear too: it doesn't show the name."""
    return hashlib.sha256(user_id.encode()).digest()[:_OWNER]


def _key(token: object) -> Row | None:
    """Return the key of a session's row; None for a text that is no token."""
    if isinstance(token, UserSession):
        return {"owner": _owner(token.user_id), "id": token.id}
    if not isinstance(token, str):
        raise InvalidInput("token", "a str", token)
    try:
        found = base64.b64decode(token, altchars=b"-_", validate=True)
    except ValueError:
        return None
    if len(found) != _SECRET + _OWNER:
        return None
    return {"owner": found[_SECRET:], "id": _hash(found)}
