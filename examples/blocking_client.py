"""Run one query over a plain blocking socket and print its rows.

python examples/blocking_client.py [--host HOST] [--port PORT] [--highest VERSION] [query]
"""

import argparse
import socket

import cqlproto
from cqlproto.messages import Error, Query, QueryParameters, Rows
from cqlproto.rows import decode_rows


def next_event(sock: socket.socket, connection: cqlproto.ClientConnection) -> cqlproto.Event:
    """Send and receive bytes until the connection reports an event."""
    while (event := connection.next_event()) is None:
        sock.sendall(connection.data_to_send())
        if data := sock.recv(65_536):
            connection.receive_data(data)
        else:
            connection.receive_eof()
    return event


def run(query: str, address: tuple[str, int], version: int) -> None:
    """Connect with this version or the server's highest version below it, and run the query."""
    connection = cqlproto.ClientConnection(version=cqlproto.ProtocolVersion(version))
    with socket.create_connection(address, timeout=10) as sock:
        connection.initiate()
        event = next_event(sock, connection)
        if isinstance(event, cqlproto.HandshakeCompleted):
            connection.send(Query(query, QueryParameters(cqlproto.Consistency.ONE)))
            event = next_event(sock, connection)
    if isinstance(event, cqlproto.HandshakeFailed):
        if event.next_version is None:
            raise ConnectionError(event.reason)
        return run(query, address, event.next_version)
    if not isinstance(event, cqlproto.ResponseReceived):
        raise ConnectionError("the server closed the connection")
    if isinstance(event.message, Error):
        raise ConnectionError(event.message.message)
    rows = decode_rows(event.message) if isinstance(event.message, Rows) else ["done"]
    print(f"protocol v{connection.version:d}", *rows, sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("query", nargs="?", default="SELECT key, cql_version FROM system.local")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9042)
    parser.add_argument("--highest", type=int, choices=(3, 4, 5), default=5, metavar="VERSION")
    args = parser.parse_args()
    try:
        run(args.query, (args.host, args.port), args.highest)
    except (OSError, cqlproto.CQLError) as error:
        raise SystemExit(f"{args.host}:{args.port}: {error}") from None
