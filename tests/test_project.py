"""Rules for the sources and texts of the project that no other tool checks."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).parent.parent
FOLDERS = [".ci", "bench", "changelog.d", "docs", "examples", "fuzz", "src", "tests", "tools"]
SUFFIXES = {
    "",
    ".c",
    ".cfg",
    ".h",
    ".md",
    ".mk",
    ".options",
    ".py",
    ".sh",
    ".toml",
    ".txt",
    ".yaml",
}
MOST_LINES = 500
"""Of a source file."""
MOST_LINES_OF_A_CLASS = 300
MOST_ROOMS = 28
"""Modules and packages at the top level of the client, ``__init__`` included."""
MOST_LAYERS = 17
PACKAGES = sorted({path.parent.name for path in ROOT.glob("src/*/*.py")})


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every text of the project with its path from the root."""
    found = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*")
    for path in found:
        if path.is_file() and path.suffix in SUFFIXES and "target" not in path.parts:
            yield path.relative_to(ROOT), path.read_text()


def lines_with(pattern: str) -> list[str]:
    compiled = re.compile(pattern)
    return [
        f"{path}:{number}: {line}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if compiled.search(line)
    ]


def public_modules() -> list[str]:
    names: list[str] = []
    for package in PACKAGES:
        path = [str(ROOT / "src" / package)]
        names += [package, *(found.name for found in pkgutil.walk_packages(path, f"{package}."))]
    return [name for name in names if "._" not in name]


def lowest() -> ModuleType:
    """Return the module ``tools/lowest.py``."""
    spec = importlib.util.spec_from_file_location("lowest", ROOT / "tools" / "lowest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def python_blocks(path: Path) -> list[str]:
    """Return the Python examples of a Markdown text."""
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def test_no_path_of_one_machine() -> None:
    folders = "|".join(["home", "root", "Users", "work", "mnt", "tmp/w"])
    assert lines_with(rf"(?<![\w./:{{}}*-])/({folders})/") == []


def test_no_host_of_a_registry() -> None:
    hosts = [("pypi", "org"), ("pythonhosted", "org"), ("maven", "org"), ("crates", "io")]
    names = "|".join(rf"{name}\.{top}" for name, top in hosts)
    # The one exception is the name of an XML namespace, which is not fetched.
    assert [line for line in lines_with(names) if "xmlns=" not in line] == []


def test_no_source_file_is_too_long() -> None:
    lines = {str(path): text.count("\n") for path, text in texts() if path.parts[0] == "src"}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def class_lines(text: str) -> dict[str, int]:
    """Return how many lines each class of a source has, with its decorators."""
    return {
        node.name: (node.end_lineno or 0)
        - min([node.lineno, *(each.lineno for each in node.decorator_list)])
        + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
    }


def test_no_class_is_too_long() -> None:
    long = {
        f"{path}:{name}"
        for path, text in texts()
        if path.parts[0] == "src" and path.suffix == ".py"
        for name, count in class_lines(text).items()
        if count > MOST_LINES_OF_A_CLASS
    }
    assert long == set()


def test_lines_of_a_class_are_counted_with_its_decorators() -> None:
    assert class_lines("import x\n\n@x\n@x.y\nclass A:\n    pass\n\n    b = 1\n") == {"A": 6}


def test_the_client_is_surveyed_at_a_glance() -> None:
    """The client's top level has few modules and packages, on few layers."""
    client = ROOT / "src" / "cqlproto_anyio"
    rooms = list(client.glob("*.py"))
    rooms += [path.parent for path in client.glob("*/__init__.py")]
    assert len(rooms) <= MOST_ROOMS, sorted(path.name for path in rooms)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [each for each in contracts["contracts"] if each["id"] == "client-layers"]
    assert 1 < len(layers["layers"]) <= MOST_LAYERS


def test_every_source_opens_with_what_it_is_for() -> None:
    sources = [(path, text) for path, text in texts() if path.parts[0] == "src"]
    python = [(path, text) for path, text in sources if path.suffix == ".py"]
    assert [str(path) for path, text in python if not ast.get_docstring(ast.parse(text))] == []


@pytest.mark.parametrize(
    ("folder", "private"),
    [
        ("tests", r"\b(session|context|connection|client)\._[a-z]\w*"),
        ("tests", r"\._context\b"),
        ("bench", r"session\._[a-z]\w*"),
    ],
)
def test_what_is_private_to_a_session_is_read_in_one_place(folder: str, private: str) -> None:
    """``cqlproto_anyio.testing.snapshot`` tells tests what they need.

    A test or benchmark of an internal object makes that object itself.
    """
    paths = [path for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)]
    assert not [path for path in paths if re.search(private, path.read_text())]


def test_every_package_is_regular_and_typed() -> None:
    assert PACKAGES
    for name in PACKAGES:
        assert (ROOT / "src" / name / "__init__.py").exists()
        assert (ROOT / "src" / name / "py.typed").exists()


@pytest.mark.parametrize("name", public_modules())
def test_all_lists_names_that_exist(name: str) -> None:
    module = importlib.import_module(name)
    exported = module.__all__
    assert len(set(exported)) == len(exported)
    assert [attribute for attribute in exported if not hasattr(module, attribute)] == []


def test_examples_in_the_readme_are_python() -> None:
    for block in python_blocks(ROOT / "README.md"):
        compile(block, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_requirement_has_one_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    everything = {**project["optional-dependencies"]}
    project["optional-dependencies"]["all"] = [f"cqlproto[{','.join(everything)}]"]
    for extra in (*everything, "all"):
        assert all("==" in pin for pin in lowest().pins(project, extra))


def test_bounds_that_cannot_be_tested_are_refused() -> None:
    project = {"name": "ours", "dependencies": ["one>=1.2"], "optional-dependencies": {}}
    extras: dict[str, list[str]] = {
        "good": ["ours[more]", "two>=3; sys_platform == 'linux'"],
        "more": ["four-five>=0.1", "one>=1.2"],
        "none": ["two"],
        "upper": ["two<3"],
        "both": ["two>=2,<3"],
        "twice": ["one>=1.3"],
    }
    project["optional-dependencies"] = extras
    pins = lowest().pins
    assert pins(project, "good") == [
        "four-five==0.1",
        "one==1.2",
        "two==3; sys_platform == 'linux'",
    ]
    for extra in ("none", "upper", "both"):
        with pytest.raises(ValueError, match="form name>=version"):
            pins(project, extra)
    with pytest.raises(ValueError, match="one has two lower bounds"):
        pins(project, "twice")
