"""The version of the distribution, in one place: the build, STARTUP and the docs read it here."""

__version__ = "0.1.0"
