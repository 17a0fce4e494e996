"""Connections: how one is opened, what runs on it, and the pool of those to one host."""
