"""The client's handshake: what it says, what it takes for an answer, and how it can fail."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from cqlproto.enums import FLAG_COMPRESSED, RESPONSE_BIT
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
from tests.cqlproto.peers import (
    GARBAGE,
    REQUESTS,
    RESPONSES,
    V4,
    WAITING,
    Recorder,
    at,
    cut,
    response_frame,
)

REFUSED = "Invalid or unsupported protocol version (7); supported versions are"
SUPPORTED = RESPONSES["SUPPORTED"]
AUTHENTICATE = RESPONSES["AUTHENTICATE"]


def requests_of(data: bytes) -> list[object]:
    """What a client has sent, plain."""
    reader = FrameReader(max_body=1 << 20, responses=False)
    reader.feed(data)
    found: list[object] = []
    while (frame := reader.read()) is not None:
        assert (frame.version, frame.flags, frame.stream) == (V4, 0, 0)
        found.append(read_request(frame.opcode, frame.body, 0, V4))
    return found


def frames_by_opcode() -> dict[int, bytes]:
    """A well-formed frame of each opcode there is, and of some that there are not."""
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


def test_the_plain_authenticator() -> None:
    """RFC 4616, without an identity to act as"""
    plain = PlainAuthenticator("Jörg", "secret\N{SNOWMAN}")
    token = b"\0J\xc3\xb6rg\0secret\xe2\x98\x83"
    assert plain.initial_response("anything") == plain.evaluate_challenge(None) == token
    assert repr(plain) == "PlainAuthenticator('Jörg', ...)"


@pytest.mark.parametrize("split", [None, 1, 5])
@pytest.mark.parametrize("compression", [None, "lz4", "snappy"])
def test_the_password_is_verified(compression: str | None, split: int | None) -> None:
    for password in ("right", "wrong"):
        client = ClientConnection(
            version=V4, compression=compression, authenticator=PlainAuthenticator("me", password)
        )
        event = LinkedPair(client, split=split).handshake(verify=b"\0me\0right".__eq__)
        if password == "right":
            assert isinstance(event, HandshakeCompleted)
            assert event.compression == compression
        else:
            assert isinstance(event, HandshakeFailed)
            assert event.authentication
            assert event.error is not None
            assert event.error.code == ErrorCode.BAD_CREDENTIALS


def test_no_authenticator() -> None:
    client = ClientConnection(version=V4)
    event = LinkedPair(client).handshake(verify=lambda _: True)
    assert isinstance(event, HandshakeFailed)
    assert event.authentication
    assert event.error is None
    assert "PasswordAuthenticator" in event.reason
    assert client.state is State.FAILED
    assert client.data_to_send() == b""


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


@pytest.mark.parametrize(
    ("text", "versions"),
    [
        (f"{REFUSED} (3/v3, 4/v4, 5/v5, 6/v6-beta)", (3, 4, 5)),
        ("Beta version of the protocol used (6/v6-beta), but USE_BETA flag is unset", ()),
        ("supported versions are (5/v5-beta, 4/v4, 3/v3)", (3, 4)),
        ("supported versions are (11/v11, 12/v12-beta)", (11,)),
        ("Invalid or unsupported protocol version (4); highest supported is 3", ()),
        ("", ()),
    ],
)
@pytest.mark.parametrize("header", [3, 4, 5, 6])
def test_an_unsupported_version(text: str, versions: tuple[int, ...], header: int) -> None:
    """The refusal comes under whatever version the server likes."""
    client = at(State.OPTIONS_SENT)
    error = Error(ErrorCode.PROTOCOL_ERROR, text)
    client.receive_data(response_frame(error, 0, version=header, flags=0x10 if header == 6 else 0))
    event = client.next_event()
    assert isinstance(event, HandshakeFailed)
    assert event.supported_versions == versions
    assert event.error == error
    assert not event.authentication


def test_a_server_that_does_not_speak_our_version() -> None:
    spoken = (ProtocolVersion.V3, ProtocolVersion.V5)
    pair = LinkedPair(ClientConnection(version=V4), ServerConnection(versions=spoken))
    event = pair.handshake()
    assert isinstance(event, HandshakeFailed)
    assert event.supported_versions == (3, 5)
    assert event.next_version is ProtocolVersion.V3


@pytest.mark.parametrize("offered", [["snappy"], ["LZ4"], [], None])
def test_a_compression_that_the_server_lacks(offered: list[str] | None) -> None:
    client = ClientConnection(version=V4, compression="lz4")
    supported = {} if offered is None else {"COMPRESSION": offered}
    event = LinkedPair(client).handshake(supported=supported)
    assert isinstance(event, HandshakeFailed)
    assert event.error is None
    assert not event.authentication
    assert event.reason.startswith("the server doesn't offer lz4")
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
        with pytest.raises(RemoteProtocolError, match="no compression was agreed on"):
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


@given(st.sampled_from(sorted(GARBAGE)), st.lists(st.integers(0, 100), max_size=5))
def test_who_does_not_speak_cql_is_found_out_at_the_first_byte(
    name: str, offsets: list[int]
) -> None:
    client = at(State.OPTIONS_SENT)
    errors: set[str] = set()
    for piece in cut(GARBAGE[name], offsets):
        client.receive_data(piece)
        if piece or errors:
            with pytest.raises(RemoteProtocolError, match=re.escape("not a CQL response")) as info:
                client.next_event()
            errors.add(str(info.value))
    assert len(errors) == 1
    client.receive_eof()
    with pytest.raises(RemoteProtocolError):
        client.next_event()


@given(
    st.sampled_from(WAITING),
    st.integers(0, 255),
    st.sampled_from([V4 | RESPONSE_BIT, 0x83, 0x85, 0xFF]),
    st.sampled_from(list(Opcode)),
    st.binary(max_size=30),
)
def test_malformed_replies_are_refused_or_understood(
    state: State, flags: int, version: int, opcode: Opcode, body: bytes
) -> None:
    client = at(state)
    client.receive_data(write_frame(version, flags, 0, opcode, body))
    try:
        event = client.next_event()
    except RemoteProtocolError:
        assert client.state is State.FAILED
    else:
        assert event is None or isinstance(event, (HandshakeCompleted, HandshakeFailed))


def test_what_came_before_an_error_is_delivered_first() -> None:
    client = at(State.STARTUP_SENT)
    client.receive_data(response_frame(READY, 0) + b"HTTP/1.1")
    assert isinstance(client.next_event(), HandshakeCompleted)
    with pytest.raises(RemoteProtocolError, match="HTTP"):
        client.next_event()


def test_handshakes_work_at_every_split() -> None:
    for split in range(1, 60):
        client = ClientConnection(
            version=V4, compression="lz4", authenticator=PlainAuthenticator("a", "b")
        )
        linked_pair(client, split=split, verify=lambda _: True)
        assert client.state is State.READY
