"""Which methods a protocol measures, with all their options, and their maps of a block of samples."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..clip import Clip
from ..explainers.registry import SIDES, check_tower, explaining, find
from ..explaining import explain

# Names of methods, or for each label in the table the options of the method of that name, or of another that the option
# "method" names: {"mmel": {}, "all blocks": {"method": "mmel", "blocks": None}}.
Methods = Sequence[str] | Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class Chosen:
    """A method under its label in the table, with every option, also those left at their defaults."""

    label: str
    name: str
    options: dict[str, object]
    sides: tuple[str, ...]

    @property
    def about(self) -> dict[str, object]:
        return {"method": self.name, "options": self.options}


def chosen_methods(clip: Clip, methods: Methods, of: str | None, seed: int) -> list[Chosen]:
    """The methods in order, after checking that each explains this side of this model, or for None any of its sides.

    seed : of methods that take one and weren't given another.
    """
    if isinstance(methods, str) or not isinstance(methods, Sequence | Mapping) or len({*methods}) < len(methods):
        raise ValueError(f"methods={methods!r}: give a list of different names, or a dict from names to options")
    if not methods:
        raise ValueError("methods is empty: give at least one")
    given = methods if isinstance(methods, Mapping) else {name: {} for name in methods}
    chosen = []
    for label, options in given.items():
        if not isinstance(label, str) or not isinstance(options, Mapping):
            raise ValueError(f"methods: {label!r} has the options {options!r}: names and dicts of options are needed")
        name, options = options.get("method", label), {key: options[key] for key in options if key != "method"}
        sides = _able(clip, name) if of is None else (of,)
        found = find(name, sides[0], options)
        check_tower(found, clip, sides[0])
        seeded = {"seed": seed} if "seed" in found.options else {}
        chosen.append(Chosen(label, name, {**found.options, **seeded, **options}, sides))
    return chosen


def maps_of(
    chosen: Sequence[Chosen], clip: Clip, pixels: Tensor, tokens: Tensor, of: str, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Maps (n, explainers, rows, cols), or of the words (n, explainers, tokens), and which are finite (n, explainers).

    Those that aren't are zero everywhere, so that the others can be measured beside them.
    """
    maps = [explain(one.name, clip, pixels, tokens, of, batch_size, **one.options).values for one in chosen]
    heat = np.stack(maps, axis=1)
    finite = np.isfinite(heat).all(axis=tuple(range(2, heat.ndim)))
    heat[~finite] = 0
    return heat, finite


def _able(clip: Clip, name: str) -> tuple[str, ...]:
    """The sides of this model that the method explains; all where it explains none, for the registry to say so."""
    able = []
    for of in SIDES:
        with contextlib.suppress(ValueError):  # of a tower that no method can explain
            able += [of] if name in explaining(clip, of) else []
    return tuple(able) or SIDES
