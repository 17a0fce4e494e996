"""Row targets: what is made of the values of a row."""

__all__: list[str] = []
