"""Joins a server to a directory (Active Directory or Samba), on first boot or later; waits for it while it is away."""
