"""Whether a map tells an object that is there from one that is not, and where the heat of the absent one goes."""

import numpy as np
import xarray as xr
from numpy.lib.stride_tricks import sliding_window_view

from ..files.checks import check_number
from ..files.schema import HIGHER, NEITHER
from ..files.store import annotate
from ..measures.estimates import auroc_of
from ..measures.localisation import coverage, energy
from ..measures.maps import auroc, checked
from ..samples.captions import name_parts, noun_phrases, world_of
from .metrics import SHARE, score_variable

BOX_AREA = 0.1  # share of the map that the box takes up: about an object of the scenes


def best_box(heat: np.ndarray, area: float = BOX_AREA) -> np.ndarray:
    """The most positive heat (...) that an axis-aligned box holds, over all its places in the map (..., rows, cols).

    The box has the map's own proportions and, to whole patches, the share ``area`` of it.
    """
    check_number(0, 1, "share of the map", open_low=True, area=area)
    sizes = [max(1, round(size * area**0.5)) for size in heat.shape[-2:]]
    boxes = sliding_window_view(np.maximum(heat, 0), sizes, (-2, -1))
    return boxes.sum((-2, -1), dtype=float).max((-2, -1))


def hallucination(
    present: xr.DataArray, absent: xr.DataArray, pairs: xr.Dataset, area: float = BOX_AREA, covered=(1.0, 1.0)
) -> xr.Dataset:
    """Compare the maps of objects that are there with those of objects that are not, on the same images.

    Parameters
    ----------
    present, absent : maps (sample, [explainer,] row, col) of ``pairs.caption`` and of ``pairs.foil``, as ``explain`` gives.
    pairs : of ``draw_pairs("absent")`` or of the suite "absent"; each foil names one object.
    area : of the box, as a share of the map.
    covered : the part of the image's height and width that the patches cover, as in ``coverage``.

    Returns
    -------
    Dataset of the ``evaluation`` schema. By explainer: ``auroc_box``, how often a present object's map has a larger share
    of its heat in its best box than an absent one's, over all pairs of images (0.5 is chance), and ``auroc_heat``, the
    same for the heat itself, each with the ``_low`` and ``_high`` end of its 95 % interval over scenes. By sample and
    explainer, shares of the absent object's heat: ``absent_on_objects``, on any object, of which ``absent_on_alike`` on
    those that share its colour, its shape or its category, and ``absent_on_background``.

    Raises ValueError for maps of other samples, and for scenes without foils that each name one object.
    Source: Zhang et al., Excitation Backprop, for the heat in boxes; the comparison is that of hallucination benchmarks.
    """
    if "foil" not in pairs:
        raise ValueError("the scenes have no foils: draw them with draw_pairs('absent')")
    maps = []
    for name, heat in (("present", present), ("absent", absent)):
        maps.append(checked(heat, pairs, f"{name} maps"))
        if "row" not in heat.dims:
            raise ValueError(f"the {name} maps {dict(heat.sizes)} aren't (sample, row, col): give maps of the image")
    if maps[0].shape != maps[1].shape or not np.array_equal(maps[0].explainer, maps[1].explainer):
        raise ValueError(
            f"the present maps {maps[0].shape} are by {', '.join(map(str, maps[0].explainer.values))}, the absent ones"
            f" {maps[1].shape} by {', '.join(map(str, maps[1].explainer.values))}: both must be alike"
        )
    here, gone = (heat.values for heat in maps)
    boxes = [best_box(heat, area) for heat in (here, gone)]
    totals = [np.maximum(heat, 0).sum((-2, -1)) for heat in (here, gone)]
    shares = [box / np.where(total == 0, 1, total) for box, total in zip(boxes, totals, strict=True)]
    mask = pairs.object_mask.transpose("sample", "object", "y", "x").values
    alike = (mask & _alike(pairs)[..., None, None]).any(1)
    on_any, on_alike = (coverage(m, here.shape[2:], covered)[:, None] for m in (mask.any(1), alike))
    out = xr.Dataset(coords={"sample": maps[0].sample.values, "explainer": maps[0].explainer.values})
    for name, values, what in (
        ("box", shares, "the share of heat in the best box"),
        ("heat", boxes, "the heat in the best box"),
    ):
        meaning = f"AUROC of present against absent by {what}"
        out[f"auroc_{name}"] = score_variable(["explainer"], auroc(*values), meaning, HIGHER)
        ends = np.array([auroc_of(*pair).interval() for pair in zip(*(each.T for each in values), strict=True)])
        for end, place in (("low", 0), ("high", 1)):
            about = f"{end} end of the 95 % interval of this"
            out[f"auroc_{name}_{end}"] = score_variable(["explainer"], ends[:, place], about, NEITHER)
    for name, where in (("objects", on_any), ("alike", on_alike), ("background", 1 - on_any)):
        meaning = f"share of the absent object's heat: {name}"
        on = energy(gone, where)
        out[f"absent_on_{name}"] = score_variable(["sample", "explainer"], on, meaning, NEITHER, limits=SHARE)
    return annotate(out, "evaluation", parameters={"area": area})


def _alike(pairs: xr.Dataset) -> np.ndarray:
    """Which objects (n, objects) share the colour, the shape or the category of the one that the foil names."""
    world = world_of(pairs)
    shared = np.zeros(pairs.object_name.shape, bool)
    for row, (foil, names) in enumerate(zip(pairs.foil.values, pairs.object_name.values, strict=True)):
        phrases = noun_phrases(str(foil).lower().split(), world)
        if len(phrases) != 1 or (world.sizes and not phrases[0].colour):
            raise ValueError(f"the foil {str(foil)!r} doesn't name one object of the world of {world.name}")
        kind = world.category[world.nouns.index(phrases[0].noun)]
        for slot, (_, colour, noun) in enumerate(map(name_parts, map(str, names))):
            alike = noun and world.category[world.nouns.index(noun)] == kind
            shared[row, slot] = bool(noun) and (alike or colour == phrases[0].colour != "")
    return shared
