"""Whole datasets, a block of samples at a time: their maps, and the protocols that measure them, in parts shared out."""

import contextlib
import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
from torch import Tensor

from ..clip.model import Clip
from ..clip.pairs import Pairs
from ..clip.score import computed_once
from ..files.checks import Choices, check_whole, labelled
from ..samples.parts import compute_parts, open_parts
from ..samples.source import Source
from .explanation import maps_of_pairs
from .registry import SIDES, Chosen, choose, explaining


def chosen_methods(clip: Clip, methods: Choices, of: str | None, seed: int) -> list[Chosen]:
    """The methods with every option, also those left at their defaults, after checking that each explains this side of
    this model, or for None any of its sides. seed : of methods that take one and weren't given another."""
    chosen = []
    for label, name, options in labelled(methods):
        [one] = choose({label: (name, options)}, clip, of or (sides(clip, name) or SIDES)[0])
        seeded = {"seed": seed} if "seed" in one.method.options else {}
        chosen.append(one._replace(options={**one.method.options, **seeded, **options}))
    return chosen


def sides(clip: Clip, name: str) -> tuple[str, ...]:
    """The sides of this model that the method explains."""
    able = []
    for of in SIDES:
        with contextlib.suppress(ValueError):  # of a tower that no method can explain
            able += [of] if name in explaining(clip, of) else []
    return tuple(able)


def maps_of(
    chosen: Sequence[Chosen], clip: Clip, pixels: Tensor, tokens: Tensor, of: str, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Maps (n, explainers, rows, cols), or of the words (n, explainers, tokens), and which are finite (n, explainers).

    Those that aren't are zero everywhere, so that the others can be measured beside them.
    """
    with computed_once():
        heat, _ = maps_of_pairs(chosen, clip, Pairs(clip, pixels, tokens), of, batch_size)
    finite = np.isfinite(heat).all(axis=tuple(range(2, heat.ndim)))
    heat[~finite] = 0
    return heat, finite


class Plan(NamedTuple):
    """What becomes of the samples: the side that is explained (None for any that a method can), the function from the
    good samples of a block and the methods to their results, and the options that these depend on."""

    of: str | None
    measure: Callable[[xr.Dataset, list[Chosen]], xr.Dataset]
    options: dict[str, object]


SHARED = """
methods, folder, shard, batch_size : see ``explain_source``. seed : of methods that take one, of ties, and of the fill
    "random".

A bad sample is NaN, its reason stands in ``error``; a map that isn't finite counts for its own method alone. Results are
read where they are looked at. Raises ValueError, before any work, for impossible choices."""


def protocol(needed: Mapping[str, str] | None = None, stage: str = "protocol", name: str | None = None) -> Callable:
    """Make a protocol of a function ``prepare(clip, source, batch_size, seed, *, own options)`` that gives its ``Plan``.

    It takes a model, a source, methods and a folder, its own options by name, and what all protocols share.
    needed : variables that the samples must have, with what each of them is. stage : of the schema. name : in the
    results' provenance, None for the function's own.
    """

    def register(prepare: Callable[..., Plan]) -> Callable[..., xr.Dataset]:
        def run(
            clip: Clip,
            source: Source,
            methods: Choices,
            folder: str | Path,
            *,
            shard: str | None = None,
            batch_size: int = 64,
            seed: int = 0,
            progress: bool = False,
            **options,
        ) -> xr.Dataset:
            if not isinstance(clip, Clip):
                raise ValueError(f"clip is a {type(clip).__name__}: a model of load_clip is needed")
            if not isinstance(source, Source):
                raise ValueError(f"source is a {type(source).__name__}: a source such as planted(...) is needed")
            check_whole(1, batch_size=batch_size)
            check_whole(0, seed=seed)
            first = source.inputs(slice(0, 1), clip) if needed else None
            for variable, meaning in (needed or {}).items():
                if variable not in first:
                    missing = f"has no {variable} ({meaning}), which this protocol needs"
                    raise ValueError(f"the {source.layout} dataset {missing}")
            plan = prepare(clip, source, batch_size, seed, **options)
            chosen = chosen_methods(clip, methods, plan.of, seed)
            title = name or prepare.__name__.replace("_", " ")
            made_with = {
                "protocol": title,
                "layout": source.layout,
                "model": clip.name,
                "weights_digest": clip.weights_digest,
                "setup": clip.setup,
                "precision": str(clip.dtype).removeprefix("torch."),
                "methods": {one.label: {"method": one.method.name, "options": one.options} for one in chosen},
                "options": plan.options,
                "batch_size": batch_size,  # inputs encoded at once change the last bit of floats
            }
            parts, bar = Path(folder), title if progress else ""
            compute_parts(parts, source, lambda good: plan.measure(good, chosen), stage, made_with, clip, shard, bar)
            return open_parts(parts, source, made_with, shard)

        own = [p for p in inspect.signature(prepare).parameters.values() if p.kind is p.KEYWORD_ONLY]
        *given, _ = inspect.signature(run).parameters.values()
        functools.update_wrapper(run, prepare)
        run.__signature__ = inspect.Signature([*given[:4], *own, *given[4:]], return_annotation=xr.Dataset)
        run.__doc__ = inspect.cleandoc(prepare.__doc__) + "\n" + SHARED
        return run

    return register


def results(
    good: xr.Dataset, chosen: Sequence[Chosen], coords: Mapping | None = None, **values: np.ndarray | tuple
) -> xr.Dataset:
    """The results of a block's good samples: variables over sample, explainer (the methods' labels), and ``coords``, or over
    other dimensions that a value comes with."""
    names = {"sample": good.sample.values, "explainer": [one.label for one in chosen], **(coords or {})}
    with_dims = {
        name: value if isinstance(value, tuple) else (list(names)[: value.ndim], value)
        for name, value in values.items()
    }
    return xr.Dataset(with_dims, names)


@protocol(stage="explanations", name="explaining")
def _explaining(clip: Clip, source: Source, batch_size: int, seed: int, *, of: str = "image") -> Plan:
    """Maps of each sample."""

    def measure(good: xr.Dataset, chosen: list[Chosen]) -> xr.Dataset:
        heat, finite = maps_of(chosen, clip, clip.pixels(good.image), clip.tokens(good.caption), of, batch_size)
        heat = np.where(finite[(..., *[None] * (heat.ndim - 2))], heat, np.nan).astype(np.float32)
        if of == "text":
            room = clip.context_length - heat.shape[2]  # so that parts are alike
            heat = np.pad(heat, ((0, 0), (0, 0), (0, room)))
        name, dims = ("heat", ("row", "col")) if of == "image" else ("word_heat", ("token",))
        return results(good, chosen, **{name: (("sample", "explainer", *dims), heat)})

    return Plan(of, measure, {"of": of})


def explain_source(
    methods: Choices,
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

    methods, of, batch_size : as in ``explain``. seed : of methods that take one.
    source : of ``open_source``; images are read a block at a time, so memory doesn't grow with their number.
    folder : of the parts, each named by its block and what it is made with. Parts that are there and were made alike are not
        computed again; those that were made otherwise, of other methods or of a picture that was replaced, stay beside them.
    shard : a share "i/k" of the samples, such as "3/16"; None for all. Shares may be computed anywhere, at the same time,
        into one folder. They go by blocks of 32 samples: a set of one block can't be shared out.

    Returns a dataset of the ``explanations`` schema, read where it is looked at: ``heat`` (sample, explainer, row, col), or
    ``word_heat`` (sample, explainer, token) as long as the model's context, of all samples, or of the share's. A bad sample
    is NaN, its reason stands in the coordinate ``error``. Raises ValueError, before any work, for an unknown method,
    option or share, and where no sample is good; of a share without a good one a warning tells.

    Examples
    --------
    >>> import tempfile, xaikit as xk
    >>> clip, source = xk.load_clip("tiny-clip"), xk.open_source("planted", 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dict(xk.explain_source("edge", clip, source, folder).heat.sizes)
    {'sample': 3, 'explainer': 1, 'row': 8, 'col': 8}
    """
    shared = {"shard": shard, "batch_size": batch_size, "seed": seed, "progress": progress}
    found = _explaining(clip, source, methods, folder, of=of, **shared)
    errors, which = found.error.values, "samples" if shard is None else f"samples of {shard}"
    if (errors != "").all():
        none = f"none of the {len(errors)} {which} can be explained; the first, {found.sample.values[0]}: {errors[0]}"
        if shard is None:
            raise ValueError(none)
        warnings.warn(none, stacklevel=2)
    return found
