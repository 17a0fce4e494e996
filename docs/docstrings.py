"""Rewrites this project's docstrings into the form that Sphinx's napoleon reads.

Napoleon reads every line of "Raises:" as the name of an exception, every indented line after a
section as a part of it, and the text before a colon in a property's first line as a type.
:func:`tidy` rewrites sentences and examples in these places before napoleon runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["connect"]

# Classes that only the package creates; the reference leaves out their constructors.
MADE_FOR_YOU = {
    "BulkResult",
    "Decision",
    "Failure",
    "Lease",
    "Page",
    "PageStream",
    "Position",
    "Prepared",
    "Result",
    "ResultStream",
    "RowStream",
    "Session",
    "UserSession",
}


def tidy(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Rewrite a docstring in place, before napoleon reads it."""
    tidied: list[str] = []
    inside = False  # within an indented block
    in_example = False
    for line in lines:
        indented = line.startswith("    ")
        if line.strip():
            if line.startswith("    >>>") and not in_example:
                tidied += ["Example:"] * inside
                in_example = True
            elif not indented:
                in_example = False
            inside = indented or line.endswith(":")
        if line.strip().removeprefix("and ").startswith("what every verb raises"):
            line = "    CQLError: what every verb raises."
        elif line.startswith("Raises (while iterating):"):
            line = "Raises:"
        tidied.append(line)
    if what == "property" and tidied:
        tidied[:1] = tidied[0].replace(": ", ":\n", 1).split("\n")
    lines[:] = tidied


def hide_constructor(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: Any,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None] | None:
    """Leave out the signatures of classes that users receive and never create."""
    hidden = what == "class" and name.startswith("cqlproto_anyio.")
    return ("", None) if hidden and name.rpartition(".")[2] in MADE_FOR_YOU else None


def connect(app: Sphinx) -> None:
    """Register the handlers with a priority before napoleon's, which is 500."""
    app.connect("autodoc-process-docstring", tidy, priority=400)
    app.connect("autodoc-process-signature", hide_constructor)
