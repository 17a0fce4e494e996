"""Forks: the child's copy of a session refuses to be used, the parent's goes on unharmed.

Each test forks in a fresh interpreter: this one has threads, perhaps, which don't survive a fork.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

PRELUDE = """
import gc, os, sys, traceback
from cqlproto_anyio.forking import watch

class Watched:
    def __init__(self, error=None):
        self.told, self.error = [], error

    def forked(self):
        self.told.append(os.getpid())
        if self.error is not None:
            raise self.error

def child(check):
    '''Run a function in a fork; its exceptions end this process too.'''
    pid = os.fork()
    if pid == 0:
        try:
            check()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert ran.returncode == 0, ran.stderr
    return ran


def test_all_that_live_are_told_in_the_child_alone() -> None:
    run("""
first, second, gone = Watched(), Watched(), Watched()
for each in (first, second, gone, first):
    watch(each)
del each, gone
gc.collect()

def check():
    assert first.told == second.told == [os.getpid()]

child(check)
assert first.told == second.told == []
child(check)
""")


def test_children_of_children_are_told() -> None:
    run("""
parents = Watched()
watch(parents)

def check():
    assert len(parents.told) == 1
    own = Watched()
    watch(own)

    def check_again():
        assert len(parents.told) == 2
        assert own.told == [os.getpid()]

    child(check_again)
    assert own.told == []

child(check)
assert parents.told == []
""")


def test_one_that_fails_leaves_none_untold() -> None:
    ran = run("""
some = [Watched(ValueError('broken') if number % 2 else None) for number in range(6)]
for each in some:
    watch(each)

def check():
    assert [each.told for each in some] == [[os.getpid()]] * 6

child(check)
""")
    assert "ValueError: broken" in ran.stderr


def test_nothing_is_kept_alive() -> None:
    run("""
import weakref
watched = Watched()
watch(watched)
kept = weakref.ref(watched)
del watched
gc.collect()
assert kept() is None
child(lambda: None)
""")


def test_where_there_is_no_fork() -> None:
    run("""
del os.register_at_fork
watched = Watched()
watch(watched)
child(lambda: None)
""")
