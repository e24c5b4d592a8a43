"""Which methods a protocol measures, with all their options, and their maps of a block of samples."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from torch import Tensor

from ..clip.model import Clip
from ..files.checks import check_whole
from ..samples.parts import compute_parts, open_parts
from ..samples.source import Source
from .explanation import explain
from .registry import SIDES, check_tower, explaining, find

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


# From the good samples of a block and its methods to their results, see ``compute_parts``.
Measure = Callable[[xr.Dataset], xr.Dataset]


def check_run(clip: Clip, source: Source, batch_size: int, seed: int, needed: Mapping[str, str] | None = None) -> None:
    """Raise ValueError, in one sentence, for what no protocol can work with.

    needed : variables that the samples must have, with what each of them is.
    """
    if not isinstance(clip, Clip):
        raise ValueError(f"clip is a {type(clip).__name__}: a model of load_clip is needed")
    if not isinstance(source, Source):
        raise ValueError(f"source is a {type(source).__name__}: a source such as planted(...) is needed")
    check_whole(1, batch_size=batch_size)
    check_whole(0, seed=seed)
    first = source.inputs(slice(0, 1), clip) if needed else None
    for name, meaning in (needed or {}).items():
        if name not in first:
            raise ValueError(f"the {source.layout} dataset has no {name} ({meaning}), which this protocol needs")


def run(
    protocol: str,
    clip: Clip,
    source: Source,
    chosen: Sequence[Chosen],
    folder: str | Path,
    measure: Measure,
    options: Mapping[str, object],
    batch_size: int,
    shard: str | None = None,
    progress: bool = False,
    stage: str = "protocol",
) -> xr.Dataset:
    """Compute what is missing of a share, and open its parts; all parts for None.

    ``batch_size`` is among what parts were made with: how many inputs are encoded at once changes the last bit of floats.
    """
    made_with = {
        "protocol": protocol,
        "layout": source.layout,
        "model": clip.name,
        "weights_digest": clip.weights_digest,
        "precision": str(clip.dtype).removeprefix("torch."),
        "methods": {one.label: one.about for one in chosen},
        "options": dict(options),
        "batch_size": batch_size,
    }
    folder = Path(folder)
    compute_parts(folder, source, measure, stage, made_with, clip, shard, protocol if progress else "")
    return open_parts(folder, source, made_with, shard)


def results(
    good: xr.Dataset, chosen: Sequence[Chosen], coords: Mapping | None = None, **values: np.ndarray
) -> xr.Dataset:
    """The results of a block's good samples: variables over sample, explainer (the methods' labels), and ``coords``."""
    names = {"sample": good.sample.values, "explainer": [one.label for one in chosen], **(coords or {})}
    dims = list(names)
    return xr.Dataset({name: (dims[: value.ndim], value) for name, value in values.items()}, names)


def explain_source(
    methods: str | Methods,
    clip: Clip,
    source: Source,
    folder: str | Path,
    of: str = "image",
    shard: str | None = None,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Explain each sample of a source, and store the maps in part files under ``folder``.

    Parameters
    ----------
    methods : a name of ``methods()``, several, or a dict from labels to options.
    source : of ``open_source``; images are read a block at a time, so memory doesn't grow with their number.
    folder : of the parts, ``000000.nc`` and so on, for these methods and options alone. Parts that are there and were made
        alike are not computed again; those that were made otherwise are replaced.
    of : "image" or "text". batch_size : pairs explained at once. seed : of stochastic methods.
    shard : a share "i/k" of the samples, such as "3/16"; None for all. Shares may be computed anywhere, at the same time,
        into one folder. They go by blocks of 32 samples: a set of one block can't be shared out.

    Returns a dataset of the ``explanations`` schema, read where it is looked at: ``heat`` (sample, explainer, row, col), or
    ``word_heat`` (sample, explainer, token) as long as the model's context, of all samples, or of the share's where one was
    asked for. A bad sample is NaN, its reason stands in the coordinate ``error``.
    Raises ValueError, before any work, for an unknown method, option or share.
    """
    chosen = chosen_methods(clip, [methods] if isinstance(methods, str) else methods, of, seed)
    check_run(clip, source, batch_size, seed)

    def maps(good: xr.Dataset) -> xr.Dataset:
        heat, finite = maps_of(chosen, clip, clip.pixels(good.image), clip.tokens(good.caption), of, batch_size)
        heat = np.where(finite[(..., *[None] * (heat.ndim - 2))], heat, np.nan).astype(np.float32)
        coords = {"sample": good.sample.values, "explainer": [one.label for one in chosen]}
        if of == "image":
            return xr.Dataset({"heat": (("sample", "explainer", "row", "col"), heat)}, coords)
        room = clip.context_length - heat.shape[2]  # so that parts are alike
        word_heat = np.pad(heat, ((0, 0), (0, 0), (0, room)))
        return xr.Dataset({"word_heat": (("sample", "explainer", "token"), word_heat)}, coords)

    return run(
        "explaining", clip, source, chosen, folder, maps, {"of": of}, batch_size, shard, progress, stage="explanations"
    )
