"""Configuration of all tests.

An ``async def test_..`` needs no marker: it runs on asyncio and on trio, in the same runner as its
async fixtures. ``@pytest.mark.uvloop`` (or ``pytestmark = pytest.mark.uvloop`` for a module) adds
asyncio with uvloop. ``@pytest.mark.futures`` adds asyncio with tasks that wait in futures, which is
the fallback for changes in asyncio. ``@pytest.mark.parametrize("anyio_backend", ["trio"])``
restricts a test to the named backends. ``@pytest.mark.asyncio`` leaves a test to pytest-asyncio,
whose fixtures run in tasks of their own.

anyio's plugin would set sniffio's variable during a test, and so hide failures under
``asyncio.run``, where nothing sets the variable. So tests run without it, as programs do.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import platform
import signal

import anyio.pytest_plugin
import hypothesis
import pytest

pytest_plugins = ["tests.cassandra.fixtures"]

BACKENDS = [pytest.param("asyncio", id="asyncio"), pytest.param("trio", id="trio")]
UVLOOP = pytest.param(("asyncio", {"use_uvloop": True}), id="asyncio+uvloop")
# The option has no effect; it distinguishes this backend from plain asyncio.
FUTURES = pytest.param(("asyncio", {"debug": False}), id="asyncio+futures")

setattr(anyio.pytest_plugin, "set_current_async_library", lambda name: None)  # noqa: B010

# A deadline per example would measure the load of the machine; the test's time limit remains.
hypothesis.settings.register_profile("cqlproto", deadline=None, print_blob=True)
# For other CPythons: differences between them show in any example, and one of them runs all
# examples (see `units` in the Makefile).
hypothesis.settings.register_profile(
    "few", hypothesis.settings.get_profile("cqlproto"), max_examples=5
)
hypothesis.settings.load_profile("cqlproto")


@pytest.fixture(scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Return the event loop of the test, as anyio expects it: a name, or a name with options."""
    return request.param


def uses_futures(backend: object) -> bool:
    """Whether a value of ``anyio_backend`` is FUTURES, on real or virtual time."""
    return isinstance(backend, tuple) and "debug" in backend[1]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names: list[str] = []
    for mark in metafunc.definition.iter_markers("parametrize"):
        given = mark.args[0]
        names += given.replace(" ", "").split(",") if isinstance(given, str) else given
    if "anyio_backend" in metafunc.fixturenames and "anyio_backend" not in names:
        marked = metafunc.definition.get_closest_marker
        more = [UVLOOP] if marked("uvloop") else []
        more += [FUTURES] if marked("futures") else []
        metafunc.parametrize("anyio_backend", [*BACKENDS, *more], indirect=True, scope="module")


def pytest_configure() -> None:
    """Let SIGINT raise KeyboardInterrupt: a shell's background jobs and nohup ignore it.

    Tests send it to themselves and to programs that they start, which inherit that it is ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> None:
    """Mark async tests for anyio's plugin, which looks for the mark after this hook."""
    function = getattr(getattr(obj, "hypothesis", None), "inner_test", obj)
    if not inspect.iscoroutinefunction(function) or not collector.istestfunction(obj, name):
        return
    marks = [*collector.iter_markers(), *getattr(obj, "pytestmark", ())]
    if not any(mark.name == "asyncio" for mark in marks):
        pytest.mark.anyio(obj)


def pytest_report_header() -> list[str]:
    names = ["anyio", "trio", "uvloop", "lz4", "cramjam", "hypothesis"]
    return [
        f"cqlproto {_version('cqlproto')} (pure Python), {platform.python_implementation()}",
        ", ".join(f"{name} {_version(name)}" for name in names),
    ]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "-"
