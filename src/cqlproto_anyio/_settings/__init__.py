"""The arguments of ``connect``, profiles, and the resolved options of a call."""
