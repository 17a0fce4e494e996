"""One row, all rows, some rows; one where there is none; and what writes return."""

from __future__ import annotations

from cqlproto_anyio.patterns.kailash import AsyncSQLDatabaseNode

CREATE = "CREATE TABLE IF NOT EXISTS items (id int PRIMARY KEY, name text)"


async def main(host: str, port: int, keyspace: str) -> None:
    node = AsyncSQLDatabaseNode(
        name="items", host=host, port=port, database=keyspace, allow_admin=True
    )
    assert (await node.async_run(query=CREATE))["result"]["data"] == []
    insert = "INSERT INTO items (id, name) VALUES (:id, :name)"
    rows = [{"id": id, "name": f"item {id}"} for id in range(5)]
    done = await node.execute_many_async(insert, rows)
    assert done["result"]["batch_size"] == 5
    every = (await node.async_run(query="SELECT id FROM items", fetch_mode="all"))["result"]
    assert (len(every["data"]), every["row_count"]) == (5, 5)
    some = await node.async_run(query="SELECT id FROM items", fetch_mode="many", fetch_size=2)
    assert len(some["result"]["data"]) == 2
    select = "SELECT name FROM items WHERE id = :id"
    one = await node.async_run(query=select, params={"id": 3}, fetch_mode="one")
    assert one["result"]["data"] == {"name": "item 3"}
    none = await node.async_run(query=select, params={"id": 9}, fetch_mode="one")
    assert (none["result"]["data"], none["result"]["row_count"]) == (None, 0)
    update = "UPDATE items SET name = :name WHERE id = :id IF EXISTS"
    there = await node.process({"query": update, "params": {"name": "x", "id": 1}})
    gone = await node.process({"query": update, "params": {"name": "x", "id": 9}})
    assert there["result"]["data"] == [{"rows_affected": 1}]
    assert gone["result"]["data"] == [{"rows_affected": 0}]
    assert (await node.health_check()).healthy
    await node.cleanup()
