"""The state machine of a connection, as tables.

Three tables say which messages may follow which; no other module decides that:

- :data:`REPLIES`: the messages that may answer a request;
- :data:`RESULTS`: the kinds of RESULT that may answer it;
- :data:`HANDSHAKE`: the client's next action for each reply of the handshake.

The handshake (v4 sections 2.3 and 4.1.1)::

    NEW --OPTIONS--> OPTIONS_SENT --SUPPORTED, STARTUP--> STARTUP_SENT --READY--> READY
                                                               |                    ^
                                                   AUTHENTICATE, AUTH_RESPONSE      |
                                                               v                    |
                      AUTH_CHALLENGE, AUTH_RESPONSE /----> AUTHENTICATING --AUTH_SUCCESS
                                                    \\--------/

ERROR in any of these states leads to FAILED, and so does a message that no table allows. On v5 all
bytes after a message of :data:`OPENS_SEGMENTS` are in segments, in both directions (v5 section
2.3.1).
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
    """The state of a connection."""

    NEW = "new"
    OPTIONS_SENT = "options sent"
    STARTUP_SENT = "startup sent"
    AUTHENTICATING = "authenticating"
    READY = "ready"
    FAILED = "failed"
    CLOSED = "closed"


class Action(enum.Enum):
    """What the client does when a reply of the handshake arrives."""

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

# The replies to STARTUP by which the server accepts the version.
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
    """What may answer a request in flight, and the metadata that reads the answer.

    The metadata is captured when the request is *sent*: preparing the statement again must not
    change how earlier replies are read.

    Arguments:
        opcode: the opcode of the request.
        metadata: the metadata that the rows of the reply are expected to have, or None.
    """

    __slots__ = ("metadata", "opcode", "replies", "results")

    def __init__(self, opcode: Opcode, metadata: ResultMetadata | None = None) -> None:
        self.opcode = opcode
        self.metadata = metadata
        self.replies = REPLIES[opcode]
        self.results = RESULTS.get(opcode, frozenset())

    def __repr__(self) -> str:
        return f"Expectation({self.opcode.name}, {self.metadata!r})"


# Shared by all requests whose result metadata is not known.
EXPECTATIONS: Mapping[int, Expectation] = {opcode: Expectation(opcode) for opcode in REPLIES}

# Replaces the expectation of an abandoned request: its stream id stays taken until the reply
# arrives, and the reply is discarded unread.
ORPHAN = Expectation(Opcode.QUERY)
