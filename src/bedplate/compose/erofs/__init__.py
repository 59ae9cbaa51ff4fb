"""The root file system: EROFS objects per content group, the linker that joins them, and a reader."""
