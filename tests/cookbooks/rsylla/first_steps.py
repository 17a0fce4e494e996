"""Connect, write and read rows of many types, and read a result twice."""

from __future__ import annotations

import datetime
import decimal
import uuid

from cqlproto_anyio.patterns.rsylla import Query, Session

CREATE = """
    CREATE TABLE IF NOT EXISTS kinds (
        id uuid PRIMARY KEY, small int, big bigint, ratio double, price decimal, day date,
        at timestamp, numbers list<int>, tags set<text>, rates map<text, double>
    )
"""
INSERT = """
    INSERT INTO kinds (id, small, big, ratio, price, day, at, numbers, tags, rates)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


async def main(contact: str, keyspace: str) -> None:
    session = await Session.connect([contact])
    await session.use_keyspace(keyspace, False)
    await session.execute(CREATE)
    await session.await_schema_agreement()

    row = {
        "id": uuid.uuid4(),
        "small": 5,
        "big": 5,
        "ratio": 0.1,
        "price": decimal.Decimal("9.99"),
        "day": datetime.date(2024, 2, 29),
        "at": datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
        "numbers": [1, 2, 3],
        "tags": {"a", "b"},
        "rates": {"x": 1.5},
    }
    await session.execute(INSERT, row)
    found = await session.execute("SELECT * FROM kinds WHERE id = ?", {"id": str(row["id"])})
    assert found.first_row_typed() == row

    result = await session.query(Query("SELECT id FROM kinds").with_page_size(100))
    once, again = [row[0] for row in result], [row[0] for row in result]
    assert once == again == [row["id"]]
    await session.aclose()
