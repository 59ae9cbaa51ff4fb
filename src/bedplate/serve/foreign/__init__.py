"""Protocols of others, mounted: what their clients ask becomes a question to the service, and its answer theirs."""
