"""Prints the source generated for a list of types: ``python -m cqlproto.rows "int, text"``."""

from __future__ import annotations

import sys

from cqlproto.cqltypes import TupleType, parse_type
from cqlproto.exceptions import LocalProtocolError
from cqlproto.rows.decoding.compiled import decoder_source
from cqlproto.rows.encoding.templates import packer_source


def main(arguments: list[str]) -> int:
    """Print the source and return 0, or 2 if the argument is not a list of types."""
    try:
        if len(arguments) != 1:
            raise LocalProtocolError('give the types of the columns, such as "int, text, uuid"')
        types = parse_type(f"tuple<{arguments[0]}>")
    except LocalProtocolError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    assert isinstance(types, TupleType)
    sys.stdout.write(f"{decoder_source(types.elements)}\n\n{packer_source(types.elements)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
