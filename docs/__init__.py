"""The documentation: its pages, and what makes some of them from the package."""
