"""Checks of the values that users pass, and handling of errors that their functions raise."""
