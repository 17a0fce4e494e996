"""``python -m cqlproto.rows "int, text"`` prints the generated source."""

from __future__ import annotations

import runpy
import sys

import pytest

from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.rows import decoder_source
from cqlproto.rows.encoding.templates import packer_source


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["cqlproto.rows", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("cqlproto.rows", run_name="__main__")
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_source_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "int, text") == 0
    types = [NATIVE_TYPES["int"], NATIVE_TYPES["text"]]
    shown = capsys.readouterr()
    assert shown.out == f"{decoder_source(types)}\n\n{packer_source(types)}"
    assert shown.err == ""


@pytest.mark.parametrize("arguments", [(), ("int", "text"), ("list<",)])
def test_what_is_no_list_of_types(
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.endswith("\n")


def test_it_is_no_program_when_it_is_imported() -> None:
    main = runpy.run_module("cqlproto.rows.__main__", run_name="imported")["main"]
    assert main(["nothing"]) == 2
