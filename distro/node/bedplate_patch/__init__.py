"""Patches a running system and can take it back: saved files, a journal, health checks, boots that are counted."""
