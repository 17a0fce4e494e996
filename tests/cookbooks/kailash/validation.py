"""Statements that change more than rows are refused, however they are written; literals are not."""

from __future__ import annotations

from cqlproto_anyio.patterns.kailash import AsyncSQLDatabaseNode, NodeExecutionError

REFUSED = (
    "DROP TABLE guests",
    "drop /* a comment */ KEYSPACE nothing",
    "-- a line\nCREATE USER eve WITH PASSWORD 'x'",
    "/* a\nb */ ALTER KEYSPACE nothing WITH durable_writes = true",
    "GRANT ALL ON KEYSPACE nothing TO eve",
    "TRUNCATE guests",
    "DROP ROLE eve",
)
ACCEPTED = ("a--b", "DROP TABLE x", "/* sleep */", "revoke")


async def main(host: str, port: int, keyspace: str) -> None:
    settings = {"host": host, "port": port, "database": keyspace}
    admin = AsyncSQLDatabaseNode(name="admin", allow_admin=True, **settings)  # type: ignore[arg-type]
    await admin.async_run(query="CREATE TABLE guests (id int PRIMARY KEY, revoke_ text)")
    node = AsyncSQLDatabaseNode(name="guests", **settings)  # type: ignore[arg-type]
    for query in REFUSED:
        try:
            await node.async_run(query=query)
        except NodeExecutionError as error:
            assert type(error).__name__ == "AdminNotAllowed"
        else:
            raise AssertionError(f"{query} was executed")
    for id, text in enumerate(ACCEPTED):
        await node.async_run(query=f"INSERT INTO guests (id, revoke_) VALUES ({id}, '{text}')")
    found = await node.async_run(query="SELECT revoke_ FROM guests")
    assert {row["revoke_"] for row in found["result"]["data"]} == set(ACCEPTED)
    for each in (admin, node):
        await each.cleanup()
