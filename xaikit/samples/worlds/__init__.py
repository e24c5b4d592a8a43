"""Worlds that scenes are drawn in, one a file."""
