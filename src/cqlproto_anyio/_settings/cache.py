"""The settings of a session's calls, resolved once for each combination of options.

Resolving options costs more than a request may. A timeout or a timestamp often differs from call to
call, so settings without these two are kept apart, and are copied for each new value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqlproto_anyio._settings.profile import checked, overlaid
from cqlproto_anyio._settings.resolved import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cqlproto_anyio._settings.profile import Profile
    from cqlproto_anyio._settings.resolved import Wires

__all__ = ["MAX_SETTINGS", "SettingsCache"]

# How many combinations of options are kept; a program has a handful.
MAX_SETTINGS = 256

_VARYING = ("timeout", "timestamp")
_UNCACHED = frozenset({"timestamp", "payload"})


class SettingsCache:
    """The settings that a session's calls have had lately.

    Arguments:
        profile: the session's options.
        wires: the options as they are sent.
        timestamps: makes timestamps for writes, in microseconds since 1970; None leaves them to the
            server.

    Attributes:
        default: the settings of a call without options.
    """

    def __init__(
        self, profile: Profile, wires: Wires, timestamps: Callable[[], int] | None
    ) -> None:
        self._profile = profile
        self._wires = wires
        self._timestamps = timestamps
        self.default = Settings(profile, wires, timestamps)
        self._by_options: dict[tuple[Any, ...], Settings] = {}
        self._without: dict[tuple[Any, ...], Settings] = {}

    def __len__(self) -> int:
        return len(self._by_options) + len(self._without)

    def resolve(self, options: Mapping[str, Any]) -> Settings:
        """Return the settings for these options, made once per combination.

        The classes of the values are part of the key: ``True`` equals a timeout of 1, and is wrong.
        """
        key: tuple[Any, ...] = ()
        for name, value in options.items():
            key += name, value, type(value)
        try:
            return self._by_options[key]
        except KeyError:
            settings = self._varied(options)
        except Exception:  # something has no hash
            return self._varied(options)
        # a timestamp is seldom used twice, and a payload may be changed by its owner
        if options.keys().isdisjoint(_UNCACHED):
            if len(self._by_options) >= MAX_SETTINGS:
                self._by_options.clear()
            self._by_options[key] = settings
        return settings

    def _varied(self, options: Mapping[str, Any]) -> Settings:
        """Return settings for a new combination, of which often only the timeout is new."""
        given = checked({name: options[name] for name in _VARYING if name in options})
        if not given:
            return self._without_variable(options)
        others = {name: value for name, value in options.items() if name not in given}
        timestamp = given.get("timestamp")
        if "timestamp" in given:  # settings differ by whether there is one, not by its value
            others["timestamp"] = None if timestamp is None else 0
        base = self._without_variable(others) if others else self.default
        if "timestamp" not in given:
            timestamp = base.timestamp
        return base.varied(given.get("timeout", base.timeout), timestamp)

    def _without_variable(self, options: Mapping[str, Any]) -> Settings:
        """Return settings from a cache of their own, which new timeouts don't fill."""
        key = tuple([(name, value, type(value)) for name, value in options.items()])
        try:
            settings = self._without.get(key)
        except Exception:  # something has no hash
            settings, key = None, ()
        if settings is None:
            profile = overlaid(self._profile, options)
            settings = Settings(profile, self._wires, self._timestamps)
            if key and "payload" not in options:
                if len(self._without) >= MAX_SETTINGS:
                    self._without.clear()
                self._without[key] = settings
        return settings
