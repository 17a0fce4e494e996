"""The client's handshake: the messages it sends, the replies it accepts, and its failures."""

from __future__ import annotations

import pytest

from cqlproto import (
    ClientConnection,
    ConnectionEnded,
    ErrorCode,
    HandshakeCompleted,
    HandshakeFailed,
    Opcode,
    PlainAuthenticator,
    ProtocolVersion,
    RemoteProtocolError,
    ServerConnection,
)
from cqlproto._state import HANDSHAKE, State
from cqlproto.enums import FLAG_COMPRESSED
from cqlproto.frames import FrameReader, write_frame
from cqlproto.messages import (
    READY,
    AuthChallenge,
    Authenticate,
    AuthResponse,
    AuthSuccess,
    Error,
    Startup,
    Supported,
    read_request,
)
from cqlproto.testing import LinkedPair, linked_pair
from tests.support.core_connections import (
    REQUESTS,
    RESPONSES,
    V3,
    V4,
    V5,
    WAITING,
    Agreement,
    Recorder,
    agreements,
    at,
    on_wire,
    response_frame,
    versions,
)

# Whatever an ERROR of any code needs.
FIELDS = {
    "consistency": 1,
    "required": 1,
    "alive": 1,
    "received": 1,
    "write_type": "SIMPLE",
    "data_present": True,
    "keyspace": "k",
    "table": "t",
    "statement_id": b"",
    "failures": 0,
    "reasons": {},
    "function": "f",
    "argument_types": [],
}
REFUSED = "Invalid or unsupported protocol version (7); supported versions are"
SUPPORTED = RESPONSES["SUPPORTED"]
AUTHENTICATE = RESPONSES["AUTHENTICATE"]


def requests_of(data: bytes, version: ProtocolVersion = V4) -> list[object]:
    """Return the requests that a client has sent, without compression."""
    reader = FrameReader(max_body=1 << 20, responses=False)
    reader.feed(data)
    found: list[object] = []
    while (frame := reader.read()) is not None:
        assert (frame.version, frame.flags, frame.stream) == (version, 0, 0)
        found.append(read_request(frame.opcode, frame.body, 0, version))
    return found


def frames_by_opcode() -> dict[int, bytes]:
    """Well-formed frames of every opcode and of some unknown ones."""
    frames = {opcode: write_frame(0x84, 0, 0, opcode, b"") for opcode in (0x04, 0x11, 0x7F, 0xFF)}
    for message in (*RESPONSES.values(), *REQUESTS.values(), Startup({}), AuthResponse(b"x")):
        body = bytearray()
        message.write_body(body, V4)
        frames[message.opcode] = write_frame(0x84, 0, 0, message.opcode, bytes(body))
    assert frames.keys() >= set(Opcode)
    return frames


@pytest.mark.parametrize("state", [State.NEW, *WAITING, State.FAILED])
def test_what_is_not_in_the_table_is_refused(state: State) -> None:
    for opcode, frame in frames_by_opcode().items():
        client = at(state)
        client.receive_data(frame)
        step = HANDSHAKE.get((state, Opcode(opcode))) if opcode in set(Opcode) else None
        if step is None:
            for _ in range(2):
                with pytest.raises(RemoteProtocolError, match=f"opcode 0x{opcode:02x} on stream 0"):
                    client.next_event()
            assert client.state is State.FAILED
            assert client.data_to_send() == b""
        else:
            client.next_event()
            assert client.state is step[1]


@pytest.mark.parametrize("stream", [-1, 1, 7])
@pytest.mark.parametrize("state", WAITING)
def test_stream_0_is_that_of_the_handshake(state: State, stream: int) -> None:
    for before, opcode in HANDSHAKE:
        if before is state:
            client = at(state)
            client.receive_data(response_frame(RESPONSES[opcode.name], stream))
            with pytest.raises(RemoteProtocolError, match=f"on stream {stream}"):
                client.next_event()


@pytest.mark.parametrize("version", [0, 3, 5, 6, 127])
def test_a_reply_of_another_version_is_refused_unless_versions_do_not_differ_in_it(
    version: int,
) -> None:
    for state, opcode in HANDSHAKE:
        client = at(state)
        client.receive_data(response_frame(RESPONSES[opcode.name], 0, version=version))
        if opcode is Opcode.ERROR:
            assert isinstance(client.next_event(), HandshakeFailed)
        elif opcode is Opcode.SUPPORTED:
            assert client.next_event() is None
            assert client.state is State.STARTUP_SENT
        else:
            with pytest.raises(RemoteProtocolError, match=f"version 0x{version | 0x80:02x}"):
                client.next_event()


def test_without_authentication() -> None:
    """v4 section 4.1.1"""
    client = ClientConnection(
        version=V4, options={"DRIVER_NAME": "cqlproto", "THROW_ON_OVERLOAD": "1"}
    )
    assert client.data_to_send() == b""
    client.initiate()
    assert client.data_to_send().hex() == "040000000500000000"
    assert client.data_to_send() == b""
    client.receive_data(response_frame(Supported({"CQL_VERSION": ["3.4.7"], "odd": []}), 0))
    assert client.next_event() is None
    assert requests_of(client.data_to_send()) == [
        Startup({"CQL_VERSION": "3.0.0", "DRIVER_NAME": "cqlproto", "THROW_ON_OVERLOAD": "1"})
    ]
    client.receive_data(response_frame(READY, 0))
    event = client.next_event()
    assert isinstance(event, HandshakeCompleted)
    assert event.version is client.version is V4
    assert event.supported == {"CQL_VERSION": ["3.4.7"], "odd": []}
    assert event.compression is None
    assert client.next_event() is None
    assert client.data_to_send() == b""
    assert (client.state, client.in_flight) == (State.READY, 0)


def test_extensions_are_asked_for_where_they_are_offered() -> None:
    client = ClientConnection(version=V4, extensions={"TABLETS_ROUTING_V1": "", "OTHER": "1"})
    client.initiate()
    client.data_to_send()
    client.receive_data(response_frame(Supported({"TABLETS_ROUTING_V1": [""]}), 0))
    assert client.next_event() is None
    assert requests_of(client.data_to_send()) == [
        Startup({"CQL_VERSION": "3.0.0", "TABLETS_ROUTING_V1": ""})
    ]
    assert client.supported == {"TABLETS_ROUTING_V1": [""]}


def test_with_authentication_and_challenges() -> None:
    """v4 section 4.1.2"""
    recorder = Recorder()
    client = ClientConnection(version=V4, authenticator=recorder)
    client.initiate()
    replies = [SUPPORTED, Authenticate("a.b.C"), AuthChallenge(b"1"), AuthChallenge(None)]
    for message in replies:
        client.receive_data(response_frame(message, 0))
        assert client.next_event() is None
        sent = requests_of(client.data_to_send())
    assert sent == [AuthResponse(b"next")]
    assert recorder.asked == ["a.b.C", b"1", None]
    client.receive_data(response_frame(AuthSuccess(b"bye"), 0))
    assert isinstance(client.next_event(), HandshakeCompleted)


def test_challenges_without_end() -> None:
    client = ClientConnection(version=V4, authenticator=Recorder())
    client.initiate()
    for message in (SUPPORTED, AUTHENTICATE):
        client.receive_data(response_frame(message, 0))
        assert client.next_event() is None
    client.receive_data(response_frame(AuthChallenge(b"?"), 0) * 100)
    assert client.next_event() is None
    client.receive_data(response_frame(AuthChallenge(b"?"), 0))
    event = client.next_event()
    assert isinstance(event, HandshakeFailed)
    assert event.authentication
    assert event.reason == "the server sent more than 100 challenges"


@pytest.mark.parametrize("split", [None, 1, 5])
@agreements
def test_the_password_is_verified(agreement: Agreement, split: int | None) -> None:
    for password in ("right", "wrong"):
        client = ClientConnection(
            version=agreement.version,
            compression=agreement.compression,
            authenticator=PlainAuthenticator("me", password),
        )
        event = LinkedPair(client, split=split).handshake(verify=b"\0me\0right".__eq__)
        if password == "right":
            assert isinstance(event, HandshakeCompleted)
            assert (event.version, event.compression) == agreement
        else:
            assert isinstance(event, HandshakeFailed)
            assert event.authentication
            assert event.next_version is None
            assert event.error is not None
            assert event.error.code == ErrorCode.BAD_CREDENTIALS


@versions
def test_no_authenticator(version: ProtocolVersion) -> None:
    client = ClientConnection(version=version)
    event = LinkedPair(client).handshake(verify=lambda _: True)
    assert isinstance(event, HandshakeFailed)
    assert event.authentication
    assert event.error is None
    assert "PasswordAuthenticator" in event.reason
    assert client.state is State.FAILED
    assert client.data_to_send() == b""


@pytest.mark.parametrize("state", [State.STARTUP_SENT, State.AUTHENTICATING])
def test_what_an_authenticator_raises_comes_out_as_it_is(state: State) -> None:
    class Unwilling(Recorder):
        def initial_response(self, mechanism: str) -> bytes:
            if state is State.STARTUP_SENT:
                raise KeyError(mechanism)
            return super().initial_response(mechanism)

        def evaluate_challenge(self, challenge: bytes | None) -> bytes:
            raise KeyError(challenge)

    client = ClientConnection(version=V4, authenticator=Unwilling())
    client.initiate()
    replies = [SUPPORTED, AUTHENTICATE, AuthChallenge(b"?")]
    *before, last = replies if state is State.AUTHENTICATING else replies[:2]
    for message in before:
        client.data_to_send()
        client.receive_data(response_frame(message, 0))
        assert client.next_event() is None
    client.data_to_send()
    client.receive_data(response_frame(last, 0))
    with pytest.raises(KeyError):
        client.next_event()
    assert client.state is State.FAILED
    assert client.data_to_send() == b""
    assert client.next_event() is None


@pytest.mark.parametrize("state", WAITING)
@pytest.mark.parametrize("code", [0x0000, 0x000A, 0x0100, 0x2100, 0x7777])
def test_an_error_fails_the_handshake_with_the_servers_words(state: State, code: int) -> None:
    client = at(state)
    error = Error(code, "supported versions are (4/v4)")
    client.receive_data(response_frame(error, 0))
    event = client.next_event()
    assert isinstance(event, HandshakeFailed)
    assert event.error == error
    assert event.reason == error.message
    assert event.authentication is (code == ErrorCode.BAD_CREDENTIALS)
    assert event.supported_versions == ((4,) if code == ErrorCode.PROTOCOL_ERROR else ())
    assert client.state is State.FAILED
    assert client.data_to_send() == b""
    client.receive_eof()
    assert isinstance(client.next_event(), ConnectionEnded)


# -- which version next

ALL, OLD, UNREAD = "(3/v3, 4/v4, 5/v5, 6/v6-beta)", "(3/v3, 4/v4)", "highest supported is 3"
BETA_ONLY = "Beta version of the protocol used (5/v5-beta), but USE_BETA flag is unset"


@pytest.mark.parametrize(
    ("version", "text", "supported", "next_version"),
    [
        # the list can be read: the highest below ours
        (V5, f"{REFUSED} {OLD}", (3, 4), V4),
        (V5, f"{REFUSED} (3/v3)", (3,), V3),
        (V4, f"{REFUSED} (3/v3, 5/v5, 4/v4-beta)", (3, 5), V3),
        (V5, "supported versions are (5/v5-beta, 4/v4, 3/v3)", (3, 4), V4),
        (V5, "supported versions are (2/v2, 3/v3)", (2, 3), V3),
        # and nothing that we speak is in it, or nothing below ours
        (V5, f"{REFUSED} (11/v11, 12/v12-beta)", (11,), None),
        (V3, f"{REFUSED} (4/v4, 5/v5)", (4, 5), None),
        (V4, f"{REFUSED} (1/v1, 2/v2)", (1, 2), None),
        (V3, f"{REFUSED} {ALL}", (3, 4, 5), None),
        # betas only, as Cassandra 3 says of v5, or no list: one down
        (V5, BETA_ONLY, (), V4),
        (V5, UNREAD, (), V4),
        (V4, UNREAD, (), V3),
        (V5, "", (), V4),
        (V3, UNREAD, (), None),
        (V3, "", (), None),
    ],
)
@pytest.mark.parametrize("header", [3, 4, 5, 6])
def test_an_unsupported_version(
    version: ProtocolVersion,
    text: str,
    supported: tuple[int, ...],
    next_version: ProtocolVersion | None,
    header: int,
) -> None:
    """The server refuses in any version, before or after STARTUP."""
    states = [State.OPTIONS_SENT, *[State.STARTUP_SENT] * bool(supported)]
    for state in states:
        client = at(state, version)
        error = Error(ErrorCode.PROTOCOL_ERROR, text)
        flags = 0x10 if header == 6 else 0
        client.receive_data(response_frame(error, 0, version=header, flags=flags))
        event = client.next_event()
        assert isinstance(event, HandshakeFailed)
        assert (event.supported_versions, event.next_version) == (supported, next_version)
        assert event.error == error
        assert not event.authentication


@pytest.mark.parametrize("state", [State.STARTUP_SENT, State.AUTHENTICATING])
@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Unknown compression algorithm: zstd", None),
        ("Missing value CQL_VERSION in STARTUP message", None),
        ("", None),
        ("Invalid or unsupported protocol version (5); highest supported is 4", V4),
    ],
)
def test_other_faults_of_startup_do_not_lead_to_another_version(
    state: State, text: str, version: ProtocolVersion | None
) -> None:
    client = at(state, V5)
    frame = response_frame(Error(ErrorCode.PROTOCOL_ERROR, text), 0, version=V5)
    client.receive_data(frame if state is State.STARTUP_SENT else on_wire(Agreement(V5), frame))
    event = client.next_event()
    assert isinstance(event, HandshakeFailed)
    assert (event.supported_versions, event.next_version) == ((), version)


@pytest.mark.parametrize("code", [c for c in ErrorCode if c is not ErrorCode.PROTOCOL_ERROR])
def test_other_errors_do_not_lead_to_another_version(code: ErrorCode) -> None:
    """Even if they list versions."""
    for state in WAITING[:2]:
        client = at(state, V5)
        error = Error(code, f"{REFUSED} {OLD}", FIELDS)
        client.receive_data(response_frame(error, 0, version=V5))
        event = client.next_event()
        assert isinstance(event, HandshakeFailed)
        assert (event.supported_versions, event.next_version) == ((), None)


@pytest.mark.parametrize(
    ("version", "listed", "supported", "next_version"),
    [
        (V5, ["3/v3", "4/v4"], (3, 4), V4),
        (V5, ["3/v3"], (3,), V3),
        (V5, ["3/v3", "5/v5-beta"], (3,), V3),
        (V4, ["5/v5", "6/v6"], (5, 6), None),
        (V3, ["4/v4", "5/v5"], (4, 5), None),
        (V5, ["11/v11"], (11,), None),
    ],
)
@pytest.mark.parametrize("header", [3, 4, 5])
def test_a_version_that_supported_does_not_list(
    version: ProtocolVersion,
    listed: list[str],
    supported: tuple[int, ...],
    next_version: ProtocolVersion | None,
    header: int,
) -> None:
    """No STARTUP is sent, since the server would refuse it."""
    client = at(State.OPTIONS_SENT, version)
    offered = Supported({"PROTOCOL_VERSIONS": listed})
    client.receive_data(response_frame(offered, 0, version=header))
    event = client.next_event()
    assert isinstance(event, HandshakeFailed)
    assert (event.supported_versions, event.next_version) == (supported, next_version)
    assert f"does not support v{version}, but v{supported[0]}" in event.reason
    assert (event.error, event.authentication) == (None, False)
    assert (client.state, client.data_to_send()) == (State.FAILED, b"")


@versions
@pytest.mark.parametrize("header", [3, 4, 5, 6, 127])
@pytest.mark.parametrize("listed", [["3/v3", "4/v4", "5/v5"], ["6/v6-beta"], ["odd"], [], None])
def test_supported_in_another_version_that_speaks_against_nothing(
    version: ProtocolVersion, header: int, listed: list[str] | None
) -> None:
    client = at(State.OPTIONS_SENT, version)
    offered = Supported({} if listed is None else {"PROTOCOL_VERSIONS": listed})
    client.receive_data(response_frame(offered, 0, version=header))
    assert client.next_event() is None
    assert requests_of(client.data_to_send(), version) == [Startup({"CQL_VERSION": "3.0.0"})]


@pytest.mark.parametrize("listing", [True, False], ids=["said by SUPPORTED", "said by ERROR"])
@pytest.mark.parametrize(
    ("spoken", "asked"),
    [
        ((V3, V4, V5), [V5]),
        ((V3, V4), [V5, V4]),
        ((V3,), [V5, V3]),
        ((V3, V5), [V5]),
        ((V4,), [V5, V4]),
    ],
)
def test_from_the_newest_version_down_to_what_is_spoken(
    spoken: tuple[ProtocolVersion, ...], asked: list[ProtocolVersion], listing: bool
) -> None:
    """One connection per version, as a client makes them."""
    supported = {"PROTOCOL_VERSIONS": [f"{version:d}/v{version:d}" for version in spoken]}
    tried = []
    version: ProtocolVersion | None = V5
    while version is not None:
        tried.append(version)
        # A server that reads v5 and says in SUPPORTED that it won't go on, or refuses it at once.
        server = ServerConnection(versions=tuple(ProtocolVersion) if listing else spoken)
        event = LinkedPair(ClientConnection(version=version), server).handshake(supported=supported)
        if isinstance(event, HandshakeCompleted):
            break
        assert event.supported_versions == spoken
        version = event.next_version
    assert isinstance(event, HandshakeCompleted)
    assert event.version is tried[-1]
    assert tried == asked


def test_one_version_down_at_a_time_where_nothing_is_said() -> None:
    tried = []
    version: ProtocolVersion | None = V5
    while version is not None:
        tried.append(version)
        client = at(State.OPTIONS_SENT, version)
        client.receive_data(response_frame(Error(ErrorCode.PROTOCOL_ERROR, "no"), 0, version=3))
        event = client.next_event()
        assert isinstance(event, HandshakeFailed)
        version = event.next_version
    assert tried == [V5, V4, V3]


# -- what else the handshake is about


@pytest.mark.parametrize("offered", [["snappy"], ["LZ4"], [], None])
def test_a_compression_that_the_server_lacks(offered: list[str] | None) -> None:
    client = ClientConnection(version=V4, compression="lz4")
    supported = {} if offered is None else {"COMPRESSION": offered}
    event = LinkedPair(client).handshake(supported=supported)
    assert isinstance(event, HandshakeFailed)
    assert event.error is None
    assert not event.authentication
    assert event.reason.startswith("the server does not support lz4")
    assert (offered or ["none"])[0] in event.reason
    assert client.data_to_send() == b""


@pytest.mark.parametrize(("name", "empty"), [("lz4", "0000000000"), ("snappy", "00")])
def test_ready_itself_comes_compressed_and_startup_never_is(name: str, empty: str) -> None:
    """v4 section 2.2, and what servers do"""
    client = ClientConnection(version=V4, compression=name, options={"long": "x" * 1000})
    client.initiate()
    assert client.data_to_send().hex() == "040000000500000000"
    client.receive_data(response_frame(SUPPORTED, 0))
    assert client.next_event() is None
    [startup] = requests_of(client.data_to_send())
    assert isinstance(startup, Startup)
    assert startup.options["COMPRESSION"] == name
    body = bytes.fromhex(empty)
    client.receive_data(write_frame(0x84, FLAG_COMPRESSED, 0, Opcode.READY, body))
    event = client.next_event()
    assert isinstance(event, HandshakeCompleted)
    assert event.compression == name


def test_a_compressed_frame_where_none_was_agreed_on() -> None:
    for state in (State.OPTIONS_SENT, State.STARTUP_SENT):
        client = at(state)
        client.receive_data(write_frame(0x84, FLAG_COMPRESSED, 0, Opcode.READY, bytes(5)))
        with pytest.raises(RemoteProtocolError, match="no compression was negotiated"):
            client.next_event()


def test_a_reply_with_warnings_and_a_payload() -> None:
    """v4 section 2.2: any response may have them."""
    client = at(State.STARTUP_SENT)
    prefix = bytes.fromhex("0001 0001 77  0001 0001 6b 00000001 76")
    client.receive_data(response_frame(READY, 0, flags=0x0C, prefix=prefix))
    assert isinstance(client.next_event(), HandshakeCompleted)


@pytest.mark.parametrize("state", WAITING)
def test_the_server_goes_away(state: State) -> None:
    for data, clean in [(b"", True), (b"\x84", False), (response_frame(SUPPORTED, 0)[:-1], False)]:
        client = at(state)
        client.receive_data(data)
        assert client.next_event() is None
        client.receive_eof()
        event = client.next_event()
        assert isinstance(event, ConnectionEnded)
        assert event.clean is clean
        assert client.next_event() is None


def test_what_came_before_an_error_is_delivered_first() -> None:
    client = at(State.STARTUP_SENT)
    client.receive_data(response_frame(READY, 0) + b"HTTP/1.1")
    assert isinstance(client.next_event(), HandshakeCompleted)
    with pytest.raises(RemoteProtocolError, match="HTTP"):
        client.next_event()


@agreements
def test_handshakes_work_at_every_split(agreement: Agreement) -> None:
    for split in range(1, 60):
        client = ClientConnection(
            version=agreement.version,
            compression=agreement.compression,
            authenticator=PlainAuthenticator("a", "b"),
        )
        linked_pair(client, split=split, verify=lambda _: True)
        assert client.state is State.READY
