"""Commands and paths in README exist; tests/docs runs its examples."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_commands_and_links_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = re.findall(r"^    make ([a-z]+)", text, re.MULTILINE)
    assert commands == ["demo", "test"]
    assert targets.issuperset(commands)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (ROOT / link).exists(), link
