"""The list of explanation methods. A method is one file here with one decorated function."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

SIDES = ("image", "text")


@dataclass(frozen=True)
class Method:
    """A registered explanation method: ``function(clip, pixels, tokens, *, of, **options)`` gives a tensor
    (n, rows, cols) for ``of="image"`` or (n, content tokens) for ``of="text"``."""

    name: str
    function: Callable
    sides: tuple[str, ...]
    source: str

    @property
    def options(self) -> dict[str, object]:
        """Names and defaults of the method's own options."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "of"}


_methods: dict[str, Method] = {}


def method(sides: tuple[str, ...], source: str) -> Callable:
    """Register the decorated function under its own name; ``source`` says where the method comes from."""

    def register(function: Callable) -> Callable:
        _methods[function.__name__] = Method(function.__name__, function, sides, source)
        return function

    return register


@cache
def _load_all() -> None:
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{module.name}")


def all_methods() -> dict[str, Method]:
    """Every method by name, in alphabetical order."""
    _load_all()
    return dict(sorted(_methods.items()))


def check_choices(**choices: tuple[object, tuple[str, ...]]) -> None:
    """Raise ValueError for the first option, given as name=(value, known values), whose value is not known."""
    for name, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"{name}={value!r}: choose from {', '.join(known)}")


def find(name: str, of: str, options: dict) -> Method:
    """The method of this name, after checking that it explains that side and knows those options."""
    known = all_methods()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.3) or list(known)
        raise ValueError(f"unknown method {name!r}: the nearest known ones are {', '.join(near)}")
    if of not in SIDES:
        raise ValueError(f"of={of!r}: an explanation is of the 'image' or of the 'text'")
    found = known[name]
    if of not in found.sides:
        raise ValueError(f"of={of!r}: {name} explains the {' and the '.join(found.sides)} only")
    for option in options:
        if option not in found.options:
            raise ValueError(f"unknown option {option!r} of {name}: it takes {', '.join(found.options) or 'none'}")
    return found
