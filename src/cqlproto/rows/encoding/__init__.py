"""Packing the values of a prepared statement into EXECUTE frames."""

__all__: list[str] = []
