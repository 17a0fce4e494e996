"""Resolves references to objects that are documented under another name.

A public object can be imported from several modules, and annotations name the private module that
defines it, but it is documented once. :func:`resolve` imports the object that a reference names,
and searches for the documented name of the same object.
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

# Types whose values may be shared by several names.
_ALIKE = (int, str, bytes, tuple, frozenset, type(None))


def find(target: str) -> Any:
    """Return the object of a dotted name; None if there is none or several names may share it."""
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
    """Handle the event ``missing-reference``: return a link to the documented name, or None."""
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
