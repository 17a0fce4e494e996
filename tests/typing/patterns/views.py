"""The types of denormalised views. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, assert_type

from cqlproto_anyio.patterns import Rebuilt, Table, ViewDifference, ViewReport, Views

if TYPE_CHECKING:
    import cqlproto_anyio as cql


async def viewing(executor: cql.Executor) -> None:
    base = Table("posts", key=["id"], columns={"id": "uuid", "author": "text", "tags": "set<text>"})
    by_author = Table("posts_by_author", key=["author"], clustering=["created desc", "id"])
    by_tag = Table("posts_by_tag", key=["tag"], each={"tag": "tags"}, columns=["author"])
    views = Views(executor, keyspace="blog", base=base, views=[by_author, by_tag])
    assert_type(views.schema_cql(), tuple[str, ...])
    assert_type(await views.create_schema(), None)
    assert_type(await views.create({"id": 1}), None)
    assert_type(await views.update(1, {"author": "ann"}), None)
    assert_type(await views.delete((1,)), bool)
    assert_type(await views.get({"id": 1}), dict[str, Any] | None)
    report = await views.verify(limit=10)
    assert_type(await views.verify("posts_by_tag"), ViewReport)
    assert_type(report.ok, bool)
    assert_type((report.checked, report.missing, report.stale), tuple[int, int, int])
    for difference in report.differences:
        assert_type(difference, ViewDifference)
        assert_type(difference.view, str)
        assert_type(difference.kind, Literal["missing", "stale", "different"])
        assert_type(difference.key, Mapping[str, Any])
    rebuilt = await views.rebuild("posts_by_tag")
    assert_type(rebuilt, Rebuilt)
    assert_type((rebuilt.view, rebuilt.written, rebuilt.removed), tuple[str, int, int])


async def mistakes(executor: cql.Executor, views: Views, base: Table) -> None:
    Table("posts")  # type: ignore[call-arg]
    Table("posts", ["id"])  # type: ignore[call-arg]
    Table("posts", key=["id"], columns={"id": int})  # type: ignore[dict-item]
    Views(executor, keyspace="blog", base=base)  # type: ignore[call-arg]
    await views.update(1)  # type: ignore[call-arg]
    await views.rebuild()  # type: ignore[call-arg]
