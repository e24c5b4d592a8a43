"""The list of explanation methods. A method is one file here with one decorated function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..clip.model import Clip
from ..clip.towers import Tower, shares_space, tower
from ..files.checks import Choices, check_known, labelled
from ..files.registry import Entry, Registry

SIDES = ("image", "text")
# What a method may ask of a model and its tower: whether they have it, and how to say so.
NEEDS: dict[str, tuple[Callable[[Clip, Tower], bool], str]] = {
    "tokens": (lambda clip, tower: True, "a tower of transformer blocks"),
    "summary": (lambda clip, tower: tower.summary is not None, "a single token that becomes the embedding"),
    "class token": (
        lambda clip, tower: tower.summary is not None and tower.pool is None,
        "a summary token that runs through all blocks, and no pooling layer",
    ),
    "shared space": (
        lambda clip, _: shares_space(clip),
        "patches and words that the model's own projections take to one space: no pooling layer, and a text tower of open_clip",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Method(Entry):
    """A registered explanation method: ``function(clip, pixels, tokens, *, of, **options)`` gives a tensor
    (n, rows, cols) for ``of="image"`` or (n, content tokens) for ``of="text"``.

    needs: what it asks of a tower, a name of ``NEEDS``. stochastic: whether its default depends on ``seed``.
    complete: whether its values promise to add up to the score's difference from that of the bare fill.
    """

    sides: tuple[str, ...]
    needs: str = "summary"
    stochastic: bool = False
    complete: bool = False


METHODS: Registry[Method] = Registry(__package__)


def method(sides: tuple[str, ...], source: str, **about: object) -> Callable:
    """Register the decorated function under its own name; ``source`` says where the method comes from, the
    rest what ``Method`` says. In a file of this package it is found by itself.

    Examples
    --------
    >>> import torch, xaikit as xk
    >>> from xaikit.explainers.registry import METHODS, method
    >>> @method(sides=("image",), source="mine", needs="tokens")
    ... def flat_map(clip, pixels, tokens, *, of, height: float = 1.0):
    ...     return torch.full((len(pixels), *xk.clip.tower(clip, of).grid), height)
    >>> xk.methods()["flat_map"]["options"]
    {'height': 1.0}
    >>> METHODS.remove("flat_map")
    """
    return METHODS.register(Method, sides=sides, source=source, **about)


def all_methods() -> dict[str, Method]:
    """Every method by name, in alphabetical order."""
    return dict(sorted(METHODS.all().items()))


def find(name: str, of: str, options: dict) -> Method:
    """The method of this name, after checking that it explains that side and knows those options."""
    known = all_methods()
    check_known("method", name, known)
    if of not in SIDES:
        raise ValueError(f"of={of!r}: an explanation is of the 'image' or of the 'text'")
    found = known[name]
    if of not in found.sides:
        able = ", ".join(other.name for other in known.values() if of in other.sides)
        raise ValueError(
            f"of={of!r}: {name} explains the {' and the '.join(found.sides)} only; the {of} is explained by {able}"
        )
    found.check(options)
    return found


def explaining(clip: Clip, of: str) -> dict[str, Method]:
    """The methods that can explain this tower of this model, by name.

    Raises ValueError where none can, for a tower without transformer blocks.
    """
    described = tower(clip, of)
    return {name: m for name, m in all_methods().items() if of in m.sides and NEEDS[m.needs][0](clip, described)}


def check_tower(found: Method, clip: Clip, of: str) -> None:
    """Raise ValueError, naming the methods that can, for a tower that the method can't explain."""
    if not isinstance(clip, Clip):
        raise ValueError(f"clip is a {type(clip).__name__}: a model of load_clip is needed")
    able = explaining(clip, of)
    if found.name not in able:
        raise ValueError(
            f"{found.name} can't explain the {of} tower of {clip.name}: it needs {NEEDS[found.needs][1]};"
            f" methods that can are {', '.join(able)}"
        )


class Chosen(NamedTuple):
    """A method with its options, under the label that it has among others."""

    label: str
    method: Method
    options: dict[str, object]


def choose(methods: Choices, clip: Clip, of: str, options: Mapping[str, object] | None = None) -> list[Chosen]:
    """The methods in order, after checking that each knows its options and can explain this side of this model.

    options : of each of them that doesn't say otherwise itself.
    """
    chosen = []
    for label, name, own in labelled(methods):
        own = {**(options or {}), **own}
        found = find(name, of, own)
        check_tower(found, clip, of)
        chosen.append(Chosen(label, found, own))
    return chosen


def check_native(clip: Clip, of: str) -> None:
    """Raise ValueError for a tower whose attention layers aren't the original CLIP's, which alone released codes know."""
    if not tower(clip, of).native:
        raise ValueError(
            f"reference=True: the released code knows only native CLIP blocks, which {clip.name} doesn't have"
        )
