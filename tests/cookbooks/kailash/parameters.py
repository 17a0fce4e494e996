"""Named and positional parameters, lists, JSON, dates, null, and names inside of strings."""

from __future__ import annotations

import datetime
import decimal

from cqlproto_anyio.patterns.kailash import AsyncSQLDatabaseNode, NodeExecutionError

CREATE = """
    CREATE TABLE IF NOT EXISTS notes (
        id int PRIMARY KEY, u text, user text, data text, at timestamp, price decimal
    )
"""


async def main(host: str, port: int, keyspace: str) -> None:
    node = AsyncSQLDatabaseNode(
        name="notes", host=host, port=port, database=keyspace, allow_admin=True
    )
    await node.async_run(query=CREATE)
    at = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    insert = """
        INSERT INTO notes (id, u, user, data, at, price) VALUES (:id, :u, :user, :data, :at, :price)
    """
    await node.async_run(
        query=insert,
        params={
            "id": 1,
            "u": "short",
            "user": "a name that begins with the other's",
            "data": {"tags": ["a"]},
            "at": at,
            "price": decimal.Decimal("9.99"),
        },
        parameter_types={"data": "json", "id": "int"},
    )
    found = await node.async_run(
        query="SELECT u, user, data, at, price FROM notes WHERE id = :id",
        params={"id": 1},
        fetch_mode="one",
        parameter_types={"data": "json"},
    )
    row = found["result"]["data"]
    assert (row["u"], row["data"], row["at"]) == ("short", {"tags": ["a"]}, at)
    assert row["price"] == decimal.Decimal("9.99")  # not a float
    assert row["user"].startswith("a name")

    await node.async_run(query="UPDATE notes SET u = ':id -- ?' WHERE id = :id", params={"id": 2})
    found = await node.async_run(query="SELECT id, u FROM notes WHERE id IN ?", params=[[1, 2, 3]])
    assert {row["id"]: row["u"] for row in found["result"]["data"]} == {1: "short", 2: ":id -- ?"}
    await node.async_run(query="UPDATE notes SET u = ? WHERE id = ?", params=(None, 1))
    found = await node.async_run(
        query="SELECT u FROM notes WHERE id = ?", params=1, fetch_mode="one"
    )
    assert found["result"]["data"] == {"u": None}
    try:
        await node.async_run(query="SELECT u FROM notes WHERE id = :id", params={"id": "x"})
    except NodeExecutionError as error:
        assert "id" in str(error)
    else:
        raise AssertionError("a value of another type was sent")
    await node.cleanup()
