"""Follows the releases of a channel: asks the update service, and moves to the repository state it is offered."""
