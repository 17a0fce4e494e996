"""The life of a connection as tables.

Three tables say what may happen, and nothing else in the package decides it:

- :data:`REPLIES`: which messages may answer a request;
- :data:`RESULTS`: which kinds of RESULT may answer it;
- :data:`HANDSHAKE`: what the client does next when a reply of the handshake arrives.

The handshake (v4 sections 2.3 and 4.1.1)::

    NEW --OPTIONS--> OPTIONS_SENT --SUPPORTED, STARTUP--> STARTUP_SENT --READY--> READY
                                                               |                    ^
                                                   AUTHENTICATE, AUTH_RESPONSE      |
                                                               v                    |
                      AUTH_CHALLENGE, AUTH_RESPONSE /----> AUTHENTICATING --AUTH_SUCCESS
                                                    \\--------/

ERROR in any of these ends in FAILED; so does anything that no table allows. On v5 everything that
follows one of :data:`OPENS_SEGMENTS` travels in segments, in both directions (v5 section 2.3.1).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from cqlproto.enums import Opcode
from cqlproto.messages.results import Prepared, Rows, SchemaChange, SetKeyspace, Void

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqlproto.messages.results import Result, ResultMetadata

__all__ = [
    "HANDSHAKE",
    "OPENS_SEGMENTS",
    "ORPHAN",
    "REPLIES",
    "RESULTS",
    "Action",
    "Expectation",
    "State",
]


class State(enum.Enum):
    """Where a connection stands."""

    NEW = "new"
    OPTIONS_SENT = "options sent"
    STARTUP_SENT = "startup sent"
    AUTHENTICATING = "authenticating"
    READY = "ready"
    FAILED = "failed"
    CLOSED = "closed"


class Action(enum.Enum):
    """What the client does on a reply of the handshake."""

    SEND_STARTUP = "send STARTUP"
    BEGIN_AUTHENTICATION = "send the initial AUTH_RESPONSE"
    ANSWER_CHALLENGE = "send another AUTH_RESPONSE"
    COMPLETE = "report HandshakeCompleted"
    FAIL = "report HandshakeFailed"


HANDSHAKE: Mapping[tuple[State, Opcode], tuple[Action, State]] = {
    (State.OPTIONS_SENT, Opcode.SUPPORTED): (Action.SEND_STARTUP, State.STARTUP_SENT),
    (State.STARTUP_SENT, Opcode.READY): (Action.COMPLETE, State.READY),
    (State.STARTUP_SENT, Opcode.AUTHENTICATE): (
        Action.BEGIN_AUTHENTICATION,
        State.AUTHENTICATING,
    ),
    (State.AUTHENTICATING, Opcode.AUTH_CHALLENGE): (
        Action.ANSWER_CHALLENGE,
        State.AUTHENTICATING,
    ),
    (State.AUTHENTICATING, Opcode.AUTH_SUCCESS): (Action.COMPLETE, State.READY),
    (State.OPTIONS_SENT, Opcode.ERROR): (Action.FAIL, State.FAILED),
    (State.STARTUP_SENT, Opcode.ERROR): (Action.FAIL, State.FAILED),
    (State.AUTHENTICATING, Opcode.ERROR): (Action.FAIL, State.FAILED),
}

# The replies to STARTUP that say the version is accepted.
OPENS_SEGMENTS: frozenset[int] = frozenset({Opcode.READY, Opcode.AUTHENTICATE})

REPLIES: Mapping[Opcode, frozenset[int]] = {
    Opcode.OPTIONS: frozenset({Opcode.SUPPORTED, Opcode.ERROR}),
    Opcode.STARTUP: frozenset({Opcode.READY, Opcode.AUTHENTICATE, Opcode.ERROR}),
    Opcode.AUTH_RESPONSE: frozenset({Opcode.AUTH_CHALLENGE, Opcode.AUTH_SUCCESS, Opcode.ERROR}),
    Opcode.REGISTER: frozenset({Opcode.READY, Opcode.ERROR}),
    Opcode.QUERY: frozenset({Opcode.RESULT, Opcode.ERROR}),
    Opcode.PREPARE: frozenset({Opcode.RESULT, Opcode.ERROR}),
    Opcode.EXECUTE: frozenset({Opcode.RESULT, Opcode.ERROR}),
    Opcode.BATCH: frozenset({Opcode.RESULT, Opcode.ERROR}),
}

_OF_STATEMENTS = frozenset({Void, Rows, SetKeyspace, SchemaChange})
RESULTS: Mapping[Opcode, frozenset[type[Result]]] = {
    Opcode.QUERY: _OF_STATEMENTS,
    Opcode.EXECUTE: _OF_STATEMENTS,
    Opcode.PREPARE: frozenset({Prepared}),
    Opcode.BATCH: frozenset({Void, Rows}),
}


class Expectation:
    """What may answer a request that is in flight, and what decodes the answer.

    The metadata is captured when the request is *sent*: a statement that is prepared anew meanwhile
    must not change how an earlier reply is read.

    Arguments:
        opcode: the opcode of the request.
        metadata: the metadata that its rows are expected to have, if it is known.
    """

    __slots__ = ("metadata", "opcode", "replies", "results")

    def __init__(self, opcode: Opcode, metadata: ResultMetadata | None = None) -> None:
        self.opcode = opcode
        self.metadata = metadata
        self.replies = REPLIES[opcode]
        self.results = RESULTS.get(opcode, frozenset())

    def __repr__(self) -> str:
        return f"Expectation({self.opcode.name}, {self.metadata!r})"


# One per opcode is enough where nothing is known about the rows to come.
EXPECTATIONS: Mapping[int, Expectation] = {opcode: Expectation(opcode) for opcode in REPLIES}

# Takes the place of the expectation when nobody waits any more: the stream id stays taken until the
# reply has come, and the reply goes unread.
ORPHAN = Expectation(Opcode.QUERY)
