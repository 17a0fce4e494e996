"""Print the requirements of an extra of pyproject.toml, pinned to their lowest versions.

    python tools/lowest.py unit     # "anyio==4.16", "trio==0.32", ..

Every requirement must have a lower bound and nothing else, because an upper bound would need tests
as well. Extras of the project that an extra includes are resolved too.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)>=(?P<version>[\w.]+)(?P<marker>\s*;.*)?")
_OWN = re.compile(r"(?P<name>[\w-]+)\[(?P<extras>[\w,-]+)\]")


def pins(project: dict[str, Any], extra: str) -> list[str]:
    """Return the sorted, pinned requirements of a project with one of its extras.

    Arguments:
        project: the table ``project`` of a pyproject.toml.
        extra: the name of the extra.

    Raises:
        ValueError: a requirement is not of the form ``name>=version``, or a package has two lower
            bounds.
    """
    found: dict[str, str] = {}
    waiting = list(project["dependencies"])
    followed = {extra}
    waiting += project["optional-dependencies"][extra]
    while waiting:
        text = waiting.pop()
        own = _OWN.fullmatch(text)
        if own is not None and own["name"] == project["name"]:
            for name in set(own["extras"].split(",")) - followed:
                followed.add(name)
                waiting += project["optional-dependencies"][name]
            continue
        match = _REQUIREMENT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} isn't of the form name>=version")
        pinned = f"{match['name']}=={match['version']}{match['marker'] or ''}"
        if found.setdefault(match["name"], pinned) != pinned:
            raise ValueError(
                f"{match['name']} has two lower bounds: {found[match['name']]}, {text}"
            )
    return sorted(found.values())


if __name__ == "__main__":
    table = tomllib.loads(PYPROJECT.read_text())["project"]
    print("\n".join(pins(table, sys.argv[1])))
