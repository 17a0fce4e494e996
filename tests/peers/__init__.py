"""Other drivers, connected to a server on the core's ``ServerConnection``."""
