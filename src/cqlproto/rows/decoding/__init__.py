"""Decoders of rows: a plain one, a table-driven one, and compiled ones."""

__all__: list[str] = []
