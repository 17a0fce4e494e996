"""A profile changes only the options that it was made with."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import sys
from typing import Any

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio._settings.profile import overlaid
from tests.cqlproto_anyio.test_config import BAD_OPTIONS
from tests.support.replies import echo
from tests.support.server import serving

QUORUM = cql.Consistency.QUORUM
FIELDS = [field.name for field in dataclasses.fields(cql.Profile)]
GOOD: dict[str, list[Any]] = {
    "timeout": [1, 2.5, None],
    "consistency": [QUORUM],
    "serial_consistency": [cql.Consistency.SERIAL, None],
    "page_size": [1, 7, None],
    "max_rows": [1, 9],
    "idempotent": [True, False],
    "retry": [cql.NoRetry()],
    "speculation": [cql.ConstantSpeculation(1.0), None],
    "timestamp": [1, -5, None],
    "now_in_seconds": [1, None],
    "keyspace": ["ks"],
    "trace": [True, False],
    "payload": [{"a": b"b"}, None],
}


def test_a_profile_is_what_it_was_given() -> None:
    profile = cql.Profile(timeout=30)
    assert repr(profile) == "Profile(timeout=30)"
    assert (profile.timeout, profile.consistency) == (30, cql.Consistency.LOCAL_QUORUM)
    assert repr(cql.Profile()) == "Profile()"
    profile = cql.Profile(consistency="quorum", timeout=None)
    assert repr(profile) == "Profile(timeout=None, consistency=Consistency.QUORUM)"
    assert profile == cql.Profile(timeout=None, consistency=QUORUM)
    assert hash(profile) == hash(cql.Profile(timeout=None, consistency=QUORUM))
    # a session treats them differently
    assert cql.Profile(timeout=10.0) != cql.Profile()
    assert cql.Profile() != "Profile()"
    assert {cql.Profile(): 1, cql.Profile(payload={"a": b""}): 2}[cql.Profile()] == 1


def test_profiles_are_frozen() -> None:
    profile: Any = cql.Profile(timeout=30)
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.timeout = 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        del profile.timeout
    given = {"a": b"1"}
    profile = cql.Profile(payload=given)
    given["a"] = b"2"
    assert profile.payload == {"a": b"1"}


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_alone(name: str) -> None:
    other = cql.Profile(**{key: values[0] for key, values in GOOD.items() if key != name})
    for value in GOOD[name]:
        profile = cql.Profile(**{name: value})
        assert getattr(profile, name) == value
        for same in (
            copy.copy(profile),
            copy.deepcopy(profile),
            dataclasses.replace(profile),
            dataclasses.replace(profile, **{name: value}),
        ):
            assert same == profile
            assert repr(same) == repr(profile)
            assert hash(same) == hash(profile)
        # merged over another profile it changes this field alone, whatever its value
        both = overlaid(other, {"profile": profile})
        assert getattr(both, name) == value
        assert all(getattr(both, key) == getattr(other, key) for key in FIELDS if key != name)
        assert overlaid(profile, {"profile": other}) == both


def test_replacing_keeps_open_what_was_open() -> None:
    profile = dataclasses.replace(cql.Profile(timeout=30), page_size=7)
    assert repr(profile) == "Profile(timeout=30, page_size=7)"
    assert dataclasses.asdict(profile) == {"timeout": 30, "page_size": 7}
    if sys.version_info >= (3, 13):
        assert copy.replace(profile, page_size=8) == cql.Profile(timeout=30, page_size=8)
    with pytest.raises(cql.ConfigError, match="page_size"):
        dataclasses.replace(profile, page_size=0)


def test_pickles() -> None:
    for profile in (
        cql.Profile(),
        cql.Profile(timeout=None, consistency="all", payload={"a": b""}),
    ):
        assert pickle.loads(pickle.dumps(profile)) == profile


def test_wrong_fields() -> None:
    wrong: Any = cql.Profile
    with pytest.raises(TypeError, match="unexpected keyword argument 'timeot'"):
        wrong(timeot=3)
    with pytest.raises(TypeError):
        wrong(3)


def test_no_deadline() -> None:
    assert cql.Profile(timeout=math.inf) == cql.Profile(timeout=None)


def test_what_is_equal_is_not_the_same() -> None:
    """Also if an equal value was accepted before: 1 is a timeout, True is not."""
    for name, values in GOOD.items():
        for value in values:
            cql.Profile(**{name: value})
        for value in BAD_OPTIONS[name]:
            with pytest.raises(cql.ConfigError, match=name):
                cql.Profile(**{name: value})


async def test_options_lie_over_profiles_and_these_over_the_sessions() -> None:
    own = cql.Profile(consistency=cql.Consistency.TWO, page_size=7)
    async with serving() as server, server.session(profile=own) as session:
        server.answer = echo(server)

        async def asked(verbs: cql.Session, **options: Any) -> tuple[str, int | None]:
            await verbs.execute("SELECT v FROM t", **options)
            parameters = server.seen[-1].message.parameters  # type: ignore[union-attr]  # it has parameters
            return parameters.consistency.name, parameters.page_size

        pages = cql.Profile(page_size=9)
        everything = cql.Profile(consistency="all", page_size=3)
        assert await asked(session) == ("TWO", 7)
        assert await asked(session, timeout=30) == ("TWO", 7)
        assert await asked(session, profile=cql.Profile(timeout=30)) == ("TWO", 7)
        assert await asked(session, profile=None) == ("TWO", 7)
        assert await asked(session, page_size=8) == ("TWO", 8)
        assert await asked(session, page_size=None) == ("TWO", None)
        assert await asked(session, profile=pages) == ("TWO", 9)
        assert await asked(session, profile=pages, page_size=3) == ("TWO", 3)
        assert await asked(session, profile=pages, consistency="local_one") == ("LOCAL_ONE", 9)
        assert await asked(session.using(profile=pages)) == ("TWO", 9)
        assert await asked(session.using(page_size=9)) == ("TWO", 9)
        assert await asked(session.using(page_size=9, profile=everything)) == ("ALL", 9)
        # one over the other
        other = session.using(page_size=9).using(consistency="quorum").using(timeout=3)
        assert await asked(other) == ("QUORUM", 9)
        assert await asked(other, profile=everything) == ("ALL", 3)
        assert await asked(other.using()) == ("QUORUM", 9)
        assert await asked(session) == ("TWO", 7)
        assert (other.profile.timeout, other.profile.page_size) == (3, 9)


async def test_a_sessions_profile_has_all_fields() -> None:
    async with serving() as server, server.session() as session:
        assert session.profile.timeout == 10.0
        assert set(vars(session.profile)) == {*FIELDS} - {"keyspace"}
        other = session.using(timeout=30, keyspace="ks", serial_consistency="local_serial")
        assert (other.profile.timeout, other.profile.keyspace) == (30, "ks")
        assert other.profile.serial_consistency is cql.Consistency.LOCAL_SERIAL
        assert other.using(serial_consistency=None).profile.serial_consistency is None
        assert other.using(keyspace=None).profile.keyspace == "ks"
        assert session.profile.timeout == 10.0
        for name, values in BAD_OPTIONS.items():
            for value in values:
                with pytest.raises(cql.ConfigError, match=name):
                    session.using(**{name: value})
        wrong: Any = session
        with pytest.raises(TypeError, match="timeot"):
            wrong.using(timeot=3)
        profile: Any
        for profile in ({}, "fast", cql.Profile):
            with pytest.raises(cql.ConfigError, match="profile must be a Profile"):
                wrong.using(profile=profile)
