"""Worlds of planted scenes: each file here but ``layout`` is one, known by its name."""

import importlib
import pkgutil

from ...files.checks import check_choices
from .layout import World

WORLDS = tuple(module.name for module in pkgutil.iter_modules(__path__) if module.name != "layout")


def find_world(name: str) -> World:
    """A world by its name. Raises ValueError for an unknown one.

    Examples
    --------
    >>> find_world("things").nouns[:3]
    ('dog', 'cat', 'horse')
    """
    check_choices(world=(name, WORLDS))
    return importlib.import_module(f".{name}", __package__).WORLD
