"""How methods are written wherever several can be given: names, or labels of one's own with a name and options each."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .checks import check_names

# A name, several, or {label: name} and {label: (name, {option: value})}, also mixed.
Choices = str | Iterable[str] | Mapping[str, "str | tuple[str, Mapping[str, object]]"]


class Labelled(NamedTuple):
    """A method with its own options, under the label that stands in tables and figures."""

    label: str
    name: str
    options: dict[str, object]


def labelled(methods: Choices, what: str = "methods") -> list[Labelled]:
    """The methods in order. what : the argument's name, for the sentence of the ValueError that anything else raises.

    Examples
    --------
    >>> labelled({"rise": "rise", "few masks": ("rise", {"masks": 16})})[1]
    Labelled(label='few masks', name='rise', options={'masks': 16})
    >>> [one.label for one in labelled(["rise", "mmel"])]
    ['rise', 'mmel']
    """
    if isinstance(methods, str):
        methods = [methods]
    if not isinstance(methods, Mapping):
        names = list(methods) if isinstance(methods, Iterable) else methods
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f'{what}={methods!r}: give names, or labels with a name and options, {{"l": ("n", {{}})}}')
        check_names(**{what: names})
        methods = {str(name): str(name) for name in names}
    if not methods:
        raise ValueError(f"{what}={methods!r}: give at least one")
    return [Labelled(label, *_name_and_options(label, choice, what)) for label, choice in methods.items()]


def _name_and_options(label: str, choice, what: str) -> tuple[str, dict[str, object]]:
    pair = (choice, {}) if isinstance(choice, str) else choice
    if isinstance(label, str) and isinstance(pair, tuple | list) and len(pair) == 2:
        name, options = pair
        if isinstance(name, str) and isinstance(options, Mapping) and all(isinstance(key, str) for key in options):
            return name, dict(options)
    raise ValueError(f"{what}: {label!r} is {choice!r}: a label is a text, and is given a name, or a name and options")
