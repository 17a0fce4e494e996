"""The hosts of a session: control connection, connection pools, selection of a connection."""
