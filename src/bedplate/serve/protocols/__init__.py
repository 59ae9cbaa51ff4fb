"""Update protocols of others as pure codecs: bytes in, values out, and back. No state, no I/O, no decision."""
