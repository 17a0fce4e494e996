"""Generated code for a page whose cells all have fixed sizes, which decodes it as a whole.

All rows then have the same size. The code checks that for the whole page: slices with a stride of
the row's size extract each byte of a column's lengths, and one comparison checks each slice. Then
one ``iter_unpack``, which skips the lengths, reads all values.
"""

from __future__ import annotations

from textwrap import indent

from cqlproto.rows.decoding.shapes import FORMATS, finished, read_names, targets, width_of

__all__ = ["page_format", "page_source"]

_PAGE = """\
if count > {limit} and len(body) - p >= {size} * count:
    page = body[p : p + {size} * count]
    zeros = bytes(count)
    # All lengths, column by column: the last of their four bytes, and the three before it.
    if (
        {checks}
    ):
{rows}"""

_LOOP = """\
result = []
for {names} in unpack_page(page):
{finish}    result.append({row})
return result
"""


def page_format(shape: str) -> str:
    """Return the struct format of a row of this shape; it skips the lengths."""
    return ">" + "".join(f"4x{FORMATS[kind]}" for kind in shape)


def page_source(shape: str, row: str, limit: int) -> str:
    """Return the lines that return the rows of a page, or fall through if the check fails.

    Arguments:
        shape: the kinds of the columns, at least one, all of fixed size.
        row: the expression that makes a row from ``v0`` to ``vn``.
        limit: the most rows of a page that is not decoded this way.
    """
    size = sum(max(width_of(kind), 0) + 4 for kind in shape)
    checks = []
    start = 0
    for kind in shape:
        width = width_of(kind)
        lengths = [f"page[{start + byte}::{size}]" for byte in range(4)]
        if width < 0:
            checks.append(f'{" == ".join(lengths)} == b"\\xff" * count')
        else:
            checks.append(f'{lengths[3]} == b"\\x{width:02x}" * count')
            checks.append(f"{' == '.join(lengths[:3])} == zeros")
        start += max(width, 0) + 4
    return _PAGE.format(
        limit=limit,
        size=size,
        checks="\n        and ".join(checks),
        rows=indent(_rows(shape, row), " " * 8),
    )


def _rows(shape: str, row: str) -> str:
    """Return the lines that return the rows of a page that has passed the check."""
    finish = "".join(finished(kind, i, f"v{i}") for i, kind in enumerate(shape))
    if not finish:
        made = "map(make, unpack_page(page))" if row.startswith("make") else "unpack_page(page)"
        return f"return list({made})\n"
    names = [name for i, kind in enumerate(shape) for name in read_names(kind, f"v{i}")]
    return _LOOP.format(
        names=targets(names), finish=indent(finish, " " * 4), row=indent(row, " " * 4).lstrip()
    )
