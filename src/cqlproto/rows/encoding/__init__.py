"""From the parameters of a statement to the cells of a frame."""

__all__: list[str] = []
