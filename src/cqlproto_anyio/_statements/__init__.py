"""Prepared statements: their values, their cache, and how hosts learn of them."""
