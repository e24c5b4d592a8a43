"""Lists of decorated functions: each is known by its own name and has its keyword-only arguments as options."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Generic, Literal, TypeVar, get_args, get_origin

from .checks import check_choices, check_flags, check_options, check_whole


@dataclass(frozen=True)
class Entry:
    """A registered function; ``source`` says where its method comes from, ``what`` it is called in messages."""

    what: ClassVar = "method"
    name: str
    function: Callable
    source: str = ""

    @property
    def options(self) -> dict[str, object]:
        """Names and defaults of the options; ``of``, what is explained, is none of them."""
        return {name: parameter.default for name, parameter in self._parameters.items()}

    def check(self, options: Mapping[str, object]) -> None:
        """Raise ValueError for an option that there isn't, and for a value that ``check_option`` refuses."""
        known = self._parameters
        check_options(self.name, options, known)
        for name, value in options.items():
            check_option(name, value, known[name].annotation)

    def checked(self, found: object, kind: type, sizes: Mapping[str, int]) -> object:
        """What the function gave. Raises ValueError unless that is of this kind, with these dimensions of these sizes."""
        wanted, dims = tuple(sizes.values()), ", ".join(sizes)
        if not isinstance(found, kind):
            said = f"an object of type {type(found).__name__}: the type {kind.__name__} ({dims}) is needed"
            raise ValueError(f"the {self.what} {self.name!r} gave {said}")
        if tuple(found.shape) != wanted:
            said = f"the shape {tuple(found.shape)}: {wanted}, ({dims}), is needed"
            raise ValueError(f"the {self.what} {self.name!r} gave {said}")
        return found

    @property
    def _parameters(self) -> dict[str, inspect.Parameter]:
        every = inspect.signature(self.function).parameters.items()
        return {name: each for name, each in every if each.kind is each.KEYWORD_ONLY and name != "of"}


def check_option(name: str, value: object, annotation: object) -> None:
    """Raise ValueError for a value that isn't among those of a ``Literal``, is no flag for a bool, or no seed."""
    if get_origin(annotation) is Literal:
        check_choices(**{name: (value, get_args(annotation))})
    elif annotation is bool:
        check_flags(**{name: value})
    elif name == "seed":
        check_whole(0, seed=value)


AnEntry = TypeVar("AnEntry", bound=Entry)


class Registry(Generic[AnEntry]):
    """The functions that the files of a package register. All its files are imported when the list is first asked for, so
    that a new file is on it without a word elsewhere."""

    def __init__(self, package: str) -> None:
        self._entries: dict[str, AnEntry] = {}
        self._import_all = cache(lambda: _import_files(package))

    def add(self, entry: AnEntry) -> None:
        """Put an entry on the list, instead of another of its name."""
        self._entries[entry.name] = entry

    def register(self, kind: type[AnEntry], **about: object) -> Callable[[Callable], Callable]:
        """A decorator that adds a function under its own name as an entry of this kind."""

        def add(function: Callable) -> Callable:
            self.add(kind(function.__name__, function, **about))
            return function

        return add

    def remove(self, name: str) -> None:
        """Take an entry off the list."""
        del self._entries[name]

    def all(self) -> dict[str, AnEntry]:
        """Every entry by its name, in the order in which they were registered."""
        self._import_all()
        return dict(self._entries)


def _import_files(package: str) -> None:
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        try:
            importlib.import_module(f"{package}.{module.name}")
        except ModuleNotFoundError as missing:  # of an extra that isn't installed
            if missing.name.partition(".")[0] == package.partition(".")[0]:
                raise
