"""Other drivers against the server's end of the core."""
