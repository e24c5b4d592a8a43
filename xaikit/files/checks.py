"""What users may write: options and their checks, methods with options of their own, and parts that need an extra.

Whatever isn't right is refused in one sentence that names its value and says what would be right.
"""

import difflib
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import NamedTuple

import lazy_loader

# Of these options code with torch and code without it must know the same.
PRECISIONS = ("fp32", "fp16", "bf16")
FILLS = ("zero", "mean", "black", "blur", "random")  # of ``clip.perturbation.filled``
# Of Semantic Resonance Maps. The temperature of each coupling's softmax over cosines: of 0.02 to 2, on 32 scenes (seed 5, two
# objects), the coldest at which hardly any map ends on a single patch (attention) or in a cycle (encoder).
TEMPERATURES = {"none": None, "attention": 0.7, "encoder": 0.1}
COUPLINGS = tuple(TEMPERATURES)
# The defaults of ``resonance.Recursion``, by name; a temperature of None is the coupling's own.
RECURSION = {
    "coupling": "attention",
    "alpha": 0.5,
    "iterations": 20,
    "temperature": None,
    "start": "uniform",
    "words": "all",
    "block": -2,
    "seed": 0,
}

MANY = 24  # known names; of more only the nearest to what was given are listed

EXTRAS = {  # a module that the core does without, and the extra of the package that brings it
    "ipywidgets": "explorer",
    "anywidget": "explorer",
    "voila": "explorer",
    "distributed": "sweep",
    "cryptography": "sweep",
    "transformers": "mllm",
    "accelerate": "large",
    "bitsandbytes": "large",
    "peft": "large",
}


def check_choices(**choices: tuple[object, Collection[str]]) -> None:
    """Raise ValueError for the first option, given as name=(value, known values), whose value is not known.

    Examples
    --------
    >>> xk.files.check_choices(fill=("mean", FILLS))
    """
    for name, (value, known) in choices.items():
        if value in known:
            continue
        listed = ", ".join(known)
        if len(known) > MANY:
            near = difflib.get_close_matches(str(value).lower(), known, n=5, cutoff=0.0)
            listed = f"{', '.join(near)}, the nearest of {len(known)}"
        raise ValueError(f"{name}={value!r}: choose from {listed}")


def check_known(what: str, name: object, known: Collection[str]) -> None:
    """Raise ValueError for a name that isn't known, with the nearest ones that are. what : what it is a name of."""
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.3) or known
        raise ValueError(f"unknown {what} {name!r}: the nearest known ones are {', '.join(near)}")


def check_options(of: str, options: Iterable[str], known: Collection[str]) -> None:
    """Raise ValueError for the first option of something that isn't among the known ones, by name."""
    for name in options:
        if name not in known:
            raise ValueError(f"unknown option {name!r} of {of}: it takes {', '.join(known) or 'none'}")


def check_whole(low: int | None = None, high: int | None = None, **values: object) -> None:
    """Raise ValueError for the first option, given as name=value, that is no whole number from low to high.

    Examples
    --------
    >>> xk.files.check_whole(1, n=3)
    """
    least = "" if low is None else f" of at least {low}"
    wanted = least if high is None else f" from {low} to {high}"
    for name, value in values.items():
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or (low is not None and value < low) or (high is not None and value > high):
            raise ValueError(f"{name}={value!r}: a whole number{wanted} is needed")


def check_number(
    low: float = -math.inf,
    high: float = math.inf,
    what: str = "number",
    open_low: bool = False,
    open_high: bool = False,
    **values,
) -> None:
    """Raise ValueError for the first option, given as name=value, that is no finite number from low to high.

    what : names the number in the sentence. open_low, open_high : low, or high, itself is refused.
    """
    least = f"{'above' if open_low else 'from'} {low:g}" if low > -math.inf else ""
    most = f"{'below' if open_high else 'up to'} {high:g}" if high < math.inf else ""
    wanted = (" and " if open_low and open_high else ", ").join(filter(None, (least, most)))
    if least and most and not (open_low or open_high):
        wanted = f"from {low:g} to {high:g}"
    for name, value in values.items():
        real = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        fits = real and (low < value if open_low else low <= value) and (value < high if open_high else value <= high)
        if not fits:
            raise ValueError(f"{name}={value!r}: a {f'{what} {wanted}'.strip()} is needed")


def check_flags(**values: object) -> None:
    """Raise ValueError for the first option, given as name=value, that is neither True nor False."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r}: True or False is needed")


def check_names(known: Collection[str] | None = None, **values: object) -> None:
    """Raise ValueError for the first option, given as name=value, that is no list of different names, at least one, all of
    them among the known ones."""
    for name, value in values.items():
        if isinstance(value, str) or not isinstance(value, Sequence) or not value or len({*value}) < len(value):
            raise ValueError(f"{name}={value!r}: give a list of different names, at least one")
        for each in value if known is not None else ():
            check_choices(**{name: (each, known)})


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


def attach_stub(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """``lazy_loader.attach_stub``, whose names say which extra they need where a module of one isn't installed."""
    find, names, every = lazy_loader.attach_stub(package, file)

    def found(name: str) -> object:
        try:
            return find(name)
        except ModuleNotFoundError as error:
            if extra := EXTRAS.get(str(error.name).partition(".")[0]):
                raise ModuleNotFoundError(needs(error.name, extra), name=error.name) from error
            raise

    return found, names, every


def needs(module: str, extra: str) -> str:
    """That a module isn't installed, and how it is."""
    return f"there is no module {module} here: it is installed with: pip install 'xaikit[{extra}]'"


def one_line(error: object) -> str:
    """What an error of another library says, in one line."""
    return " ".join(str(error).split())
