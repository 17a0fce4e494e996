"""The client's part of the handshake: takes a reply, returns the next message or the outcome.

The table in ``_state`` decides; this module carries out its actions (v4 sections 4.1.1 and 4.1.2).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cqlproto._events import HandshakeCompleted, HandshakeFailed
from cqlproto._state import HANDSHAKE, Action, State
from cqlproto.enums import ErrorCode, Opcode, ProtocolVersion
from cqlproto.messages.errors import Error
from cqlproto.messages.requests import AuthResponse, Options, Startup
from cqlproto.messages.responses import AuthChallenge, Authenticate, Supported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cqlproto.compression import Compressor
    from cqlproto.connection.sasl import Authenticator
    from cqlproto.messages import Response

__all__ = ["ClientHandshake"]

# SASL mechanisms need a handful of challenges; the limit ends an exchange without end.
MAX_CHALLENGES = 100


class ClientHandshake:
    """The state of the handshake.

    Arguments:
        version: the requested protocol version.
        compression: the requested compression, or None.
        authenticator: answers AUTHENTICATE, or None.
        options: more options for STARTUP.
        extensions: options for STARTUP that are sent only if SUPPORTED lists them.

    Attributes:
        supported: the options of SUPPORTED; empty until it has arrived.
    """

    __slots__ = (
        "_authenticator",
        "_challenges",
        "_extensions",
        "_options",
        "_version",
        "compression",
        "state",
        "supported",
    )

    def __init__(
        self,
        version: ProtocolVersion,
        compression: Compressor | None,
        authenticator: Authenticator | None,
        options: Mapping[str, str],
        extensions: Mapping[str, str],
    ) -> None:
        self._version = version
        self._authenticator = authenticator
        self._options = options
        self._extensions = extensions
        self._challenges = 0
        self.supported: Mapping[str, Sequence[str]] = {}
        self.compression = compression
        self.state = State.NEW

    def begin(self) -> Options:
        """Return the first message."""
        self.state = State.OPTIONS_SENT
        return Options()

    def expects(self, opcode: int) -> bool:
        """Whether the table allows a reply with this opcode now."""
        known = opcode in Opcode._value2member_map_
        return known and (self.state, Opcode(opcode)) in HANDSHAKE

    def step(
        self, message: Response
    ) -> Startup | AuthResponse | HandshakeCompleted | HandshakeFailed:
        """Return the next message to send, or the outcome of the handshake."""
        before = self.state
        action, self.state = HANDSHAKE[before, Opcode(message.opcode)]
        if action is Action.SEND_STARTUP:
            assert isinstance(message, Supported)
            return self._startup(message.options)
        if action is Action.COMPLETE:
            name = self.compression.name if self.compression else None
            return HandshakeCompleted(self._version, self.supported, name)
        if action is Action.FAIL:
            assert isinstance(message, Error)
            return _failed(message, self._version, before)
        return self._authenticate(message)

    def _startup(self, supported: Mapping[str, Sequence[str]]) -> Startup | HandshakeFailed:
        self.supported = supported
        versions = _versions_in(" ".join(supported.get("PROTOCOL_VERSIONS", ())))
        if versions and self._version not in versions:
            self.state = State.FAILED
            return HandshakeFailed(
                f"the server does not support v{self._version:d}, but {_listed(versions)}",
                version_rejected=True,
                supported_versions=versions,
                next_version=_next_version(self._version, versions),
            )
        offered_too = {key: self._extensions[key] for key in self._extensions if key in supported}
        options = {"CQL_VERSION": "3.0.0", **offered_too, **self._options}
        if self.compression is not None:
            name = self.compression.name
            offered = supported.get("COMPRESSION", ())
            if name not in offered:
                self.state = State.FAILED
                return HandshakeFailed(
                    f"the server does not support {name} compression, but"
                    f" {', '.join(offered) or 'none'}"
                )
            options["COMPRESSION"] = name
        return Startup(options)

    def _authenticate(self, message: Response) -> AuthResponse | HandshakeFailed:
        if self._authenticator is None:
            self.state = State.FAILED
            mechanism = getattr(message, "authenticator", "")
            return HandshakeFailed(
                f"the server requests authentication ({mechanism})", authentication=True
            )
        try:
            if isinstance(message, Authenticate):
                return AuthResponse(self._authenticator.initial_response(message.authenticator))
            assert isinstance(message, AuthChallenge)
            self._challenges += 1
            if self._challenges > MAX_CHALLENGES:
                self.state = State.FAILED
                return HandshakeFailed(
                    f"the server sent more than {MAX_CHALLENGES} challenges", authentication=True
                )
            return AuthResponse(self._authenticator.evaluate_challenge(message.token))
        except BaseException:  # of the caller's authenticator: passed on unchanged
            self.state = State.FAILED
            raise


def _failed(error: Error, version: ProtocolVersion, state: State) -> HandshakeFailed:
    if error.code == ErrorCode.PROTOCOL_ERROR:
        supported = _versions_in(error.message)
        # A protocol error on OPTIONS, the first message, refuses the version. A later one may have
        # another reason; only its text tells.
        if supported or state is State.OPTIONS_SENT or "protocol version" in error.message:
            return HandshakeFailed(
                error.message,
                error=error,
                version_rejected=True,
                supported_versions=supported,
                next_version=_next_version(version, supported),
            )
    bad_credentials = error.code == ErrorCode.BAD_CREDENTIALS
    return HandshakeFailed(error.message, error=error, authentication=bad_credentials)


def _versions_in(text: str) -> tuple[int, ...]:
    """Read "supported versions are (3/v3, 4/v4, 5/v5, 6/v6-beta)", betas left out."""
    found = re.findall(r"(\d{1,3})/v\d{1,3}(-beta)?", text)
    return tuple(sorted(int(number) for number, beta in found if not beta))


def _next_version(version: ProtocolVersion, supported: Sequence[int]) -> ProtocolVersion | None:
    """Return the highest supported version below this one; the next lower one if none is known."""
    lower = [known for known in ProtocolVersion if known < version]
    return max((known for known in lower if not supported or known in supported), default=None)


def _listed(versions: Sequence[int]) -> str:
    return ", ".join(f"v{version:d}" for version in versions)
