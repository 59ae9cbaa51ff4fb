"""Releases: the store, its signed metadata (TUF), channels, publishing, and reading it all back verified.

Readers start at :func:`bedplate.release.places.open_store`, writers at :class:`bedplate.release.repository.Repository`.
"""
