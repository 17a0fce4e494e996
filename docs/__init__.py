"""The documentation: pages, and Sphinx extensions that generate parts of them from the package."""
