"""References to what is documented under another name.

A public object can be imported from several places, and annotations name the private module that it
is written in. It is documented once. :func:`resolve` finds that place by the object itself: it
imports what the reference names and looks whether that object is documented.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sphinx.util.nodes import make_refnode

if TYPE_CHECKING:
    from docutils import nodes  # type: ignore[import-untyped]  # it has no types
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

__all__ = ["find", "resolve"]

# Of these one value may stand for several names.
_ALIKE = (int, str, bytes, tuple, frozenset, type(None))


def find(target: str) -> Any:
    """Return the object of a dotted name, or None if there is none, or it could be another's."""
    parts = target.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return None if isinstance(found, _ALIKE) else found
    return None


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Answer Sphinx's question what an unknown reference leads to."""
    if node.get("refdomain") != "py":
        return None
    objects = env.domains.python_domain.objects
    module, klass = node.get("py:module"), node.get("py:class")
    places = ["", f"{module}.", f"{klass}.", f"{module}.{klass}.", "cqlproto."]
    wanted = [found for place in places if (found := find(place + node["reftarget"])) is not None]
    for name, entry in objects.items():
        if any(find(name) is each for each in wanted):
            return make_refnode(
                app.builder, node["refdoc"], entry.docname, entry.node_id, [content], name
            )
    return None
