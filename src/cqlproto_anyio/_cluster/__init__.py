"""The hosts of a session, the control connection, and the choice of a connection for a request."""
