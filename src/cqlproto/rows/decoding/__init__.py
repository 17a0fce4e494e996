"""From the body of a page to Python values: a reference decoder, and compiled ones."""

__all__: list[str] = []
