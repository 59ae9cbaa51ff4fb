"""Releases: what is published, immutable and signed; the store they lie in; the channels that point to them."""
