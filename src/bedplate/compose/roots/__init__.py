"""Kinds of root file systems: small plug-ins that write a tree plan's bytes and say how the disk holds them."""
