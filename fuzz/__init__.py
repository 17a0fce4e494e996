"""Coverage-guided fuzzing of every parser.

A target in ``fuzz.targets`` is a function of bytes. It returns if the library behaves as documented
and raises if it does not. Atheris searches for bytes that make a target raise (``python -m fuzz``);
the tests call the same functions with seeds, mutations of seeds and known regressions.
"""
