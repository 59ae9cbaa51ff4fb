"""Forms an image takes for where it runs: one small module each, registered by name in :mod:`.kinds`."""
