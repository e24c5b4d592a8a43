"""Explanation methods, one a file, each registered with ``@method``."""
