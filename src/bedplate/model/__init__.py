"""Frozen types, parsing and formatting. No I/O: nothing here opens a file, a socket or a process."""
