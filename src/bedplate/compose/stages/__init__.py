"""Stages: what package scripts would have made, each a small module with declared inputs and one result."""
