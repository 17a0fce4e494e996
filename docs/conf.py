"""Configuration of Sphinx, with furo and MyST. The build is strict and needs no network.

autodoc takes the reference from the sources. Annotations there name classes that are imported only
under ``if TYPE_CHECKING:``; :func:`import_names_of_annotations` imports these, so that signatures
link to them.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import cqlproto  # noqa: E402  # the path comes first
import cqlproto_anyio  # noqa: E402
from docs import directives, docstrings, references  # noqa: E402

if TYPE_CHECKING:
    from types import ModuleType

    from sphinx.application import Sphinx

project = "cqlproto"
author = "the cqlproto authors"
release = version = cqlproto.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_*"]
html_theme = "furo"
html_title = f"cqlproto {release}"
html_show_sphinx = False
html_copy_source = False
html_css_files = ["cqlproto.css"]
html_static_path = ["_static"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# Every reference in text or signatures must lead to a documented name, or match one of these.
nitpicky = True
# Several classes have an attribute `type`, any of which `type[R]` in a signature could mean.
suppress_warnings = ["ref.python"]
nitpick_ignore_regex = [
    # The standard library and other packages: links would need their inventories from the network.
    (
        "py:.*",
        r"(abc|anyio|collections|contextlib|datetime|decimal|enum|hypothesis|ipaddress|ssl|types)\..*",
    ),
    ("py:.*", r"(typing|typing_extensions|uuid)\..*"),
    ("py:exc", "InvalidArgument"),  # of Hypothesis
    # Private names of the fault proxy, and the fields of a profile, which Profile documents.
    ("py:class", r"re\.Pattern|.*\.relay\.Statements|.*\.profile\._Fields|.*\._ErrorMessage"),
    # What stands for the arguments of connect(), which documents them.
    ("py:class", r"(.*\.)?ConnectArguments|Hosts"),
    # Type variables.
    ("py:(class|obj)", r"(cqlproto(_anyio)?\..*\.)?[A-Z](_co)?"),
]


def modules_of(package: ModuleType) -> list[ModuleType]:
    """Return a package and all its modules."""
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    names = [each.name for each in found if not each.name.endswith("__main__")]
    return [package, *map(importlib.import_module, names)]


def import_names_of_annotations(module: ModuleType) -> None:
    """Run a module's imports under ``if TYPE_CHECKING:``. All modules must be loaded before."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())
    for block in tree.body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            imports: list[ast.stmt] = [
                node for node in block.body if isinstance(node, ast.Import | ast.ImportFrom)
            ]
            code = compile(ast.Module(imports, []), module.__file__, "exec")
            exec(code, module.__dict__)


for package in (cqlproto, cqlproto_anyio):
    for module in modules_of(package):
        import_names_of_annotations(module)


def setup(app: Sphinx) -> None:
    directives.setup(app)
    docstrings.connect(app)
    app.connect("missing-reference", references.resolve)
