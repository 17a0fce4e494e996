"""Coverage-guided fuzzing of every parser.

A target is a plain function of bytes, in ``fuzz.targets``: it returns if the library did what it
documents, and raises if it did not. Atheris looks for bytes that make it raise (``python -m
fuzz``); the tests call the same functions with what is known to be worth trying.
"""
