"""The cache of settings: one object for the same options, whatever the timeouts and timestamps."""

from __future__ import annotations

from typing import Any

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio._settings import cache as cache_module
from cqlproto_anyio._settings.cache import SettingsCache
from cqlproto_anyio._settings.profile import DEFAULTS, overlaid
from cqlproto_anyio._settings.resolved import Settings, Wires


def stamp() -> int:
    return 5


def cache(**options: Any) -> SettingsCache:
    """Return the cache of a session with these options."""
    return SettingsCache(overlaid(DEFAULTS, options), Wires(None), stamp)


class Unhashable:
    """A retry policy without a hash."""

    __hash__ = None  # type: ignore[assignment]  # so that it can't be a key

    def decide(self, error: cql.CQLError, **_: Any) -> None:
        return None


def test_the_default_is_the_sessions_profile() -> None:
    made = cache(timeout=3.0, page_size=7)
    assert (made.default.timeout, made.default.parameters.page_size) == (3.0, 7)
    assert made.default.timestamps is stamp
    assert len(made) == 0


def test_the_same_options_have_the_same_settings() -> None:
    made = cache(timeout=3.0)
    settings = made.resolve({"page_size": 7, "idempotent": True})
    assert (settings.timeout, settings.parameters.page_size) == (3.0, 7)
    assert settings.idempotent
    assert settings.timestamps is stamp
    assert made.resolve({"page_size": 7, "idempotent": True}) is settings
    assert made.resolve({"page_size": 8, "idempotent": True}) is not settings
    assert made.resolve({"page_size": 7}) is not settings


def test_values_of_other_classes_are_other_options() -> None:
    made = cache()
    one = made.resolve({"timeout": 1})
    assert made.resolve({"timeout": 1.0}) is not one
    made.resolve({"page_size": 1})
    for option in ("timeout", "page_size"):
        with pytest.raises(cql.ConfigError, match=option):
            made.resolve({option: True})


def test_timeouts_share_the_rest() -> None:
    made = cache(timestamp=9)
    base = made.resolve({"page_size": 7})
    one, two = (made.resolve({"timeout": each, "page_size": 7}) for each in (1.0, None))
    assert (one.timeout, two.timeout) == (1.0, None)
    assert one.wire is two.wire is base.wire
    assert one.timestamp == two.timestamp == 9  # the session's
    assert made.resolve({"timeout": 1.0, "page_size": 7}) is one
    assert made.resolve({"timeout": 1.0}).wire is made.default.wire


def test_timestamps_share_the_rest_and_are_not_kept() -> None:
    made = cache()
    base = made.resolve({"page_size": 7})
    before = len(made)
    one, two = (made.resolve({"timestamp": each, "page_size": 7}) for each in (1, 2))
    assert (one.timestamp, two.timestamp) == (1, 2)
    assert one.timestamps is None  # it has one
    assert one.binder_key is None
    assert one.wire is two.wire is not base.wire
    assert one.timeout == base.timeout
    for number in range(50):
        made.resolve({"timestamp": number, "timeout": 1.0, "page_size": 7})
    assert len(made) == before + 1
    assert made.resolve({"timestamp": 1, "page_size": 7}) is not one


def test_no_timestamp_of_the_sessions() -> None:
    made = cache(timestamp=9)
    assert made.default.timestamps is None
    settings = made.resolve({"timestamp": None})
    assert settings.timestamp is None
    assert settings.timestamps is stamp
    assert settings.wire is not made.default.wire


def test_payloads_are_not_kept() -> None:
    made = cache()
    for number in range(3):
        settings = made.resolve({"payload": {"key": b"%d" % number}})
        assert settings.payload == {"key": b"%d" % number}
    assert len(made) == 0


@pytest.mark.parametrize("more", [{}, {"timeout": 1.0}])
def test_a_policy_without_a_hash_is_not_kept(more: dict[str, Any]) -> None:
    made, policy = cache(), Unhashable()
    for _ in range(2):
        assert made.resolve({"retry": policy, **more}).retry is policy
    assert len(made) == 0


def test_wrong_options_are_not_kept() -> None:
    made = cache()
    for _ in range(2):
        for options in ({"timeout": -1}, {"timestamp": "now"}, {"page_size": -1}, {"unknown": 1}):
            with pytest.raises((cql.ConfigError, TypeError)):
                made.resolve(options)
    assert len(made) == 0


def test_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_SETTINGS", 3)
    made = cache()
    kept = [made.resolve({"page_size": size}) for size in (1, 2, 3)]
    assert len(made) == 6
    assert [made.resolve({"page_size": size}) for size in (1, 2, 3)] == kept
    fourth = made.resolve({"page_size": 4})
    assert len(made) == 2  # the others are forgotten
    assert made.resolve({"page_size": 4}) is fourth
    assert made.resolve({"page_size": 1}) is not kept[0]


def test_new_timeouts_do_not_drop_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_SETTINGS", 3)
    made = cache()
    wire = made.resolve({"page_size": 7}).wire
    made_new = 0

    class Counting(Settings):
        __slots__ = ()

        def __init__(self, *arguments: Any) -> None:
            nonlocal made_new
            made_new += 1
            super().__init__(*arguments)

    monkeypatch.setattr(cache_module, "Settings", Counting)
    for number in range(1, 20):
        assert made.resolve({"page_size": 7, "timeout": number / 8}).wire is wire
    assert made_new == 0
