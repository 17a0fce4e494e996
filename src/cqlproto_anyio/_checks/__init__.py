"""Checks of what users pass: values of arguments, and callables that may raise anything."""
