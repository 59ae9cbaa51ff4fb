"""Bedplate: a Linux distribution and the factory that makes it."""

__version__ = "0.1.0"
