"""Row targets: functions that make a row from its values."""

__all__: list[str] = []
