"""``evaluate``: every metric that applies, for one or many explainers. A metric is one function with ``@metric``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from torch import Tensor

from ..clip.model import Clip
from ..clip.pairs import check_good
from ..explainers.registry import SIDES
from ..files.checks import check_choices, check_names, check_whole
from ..files.registry import Entry, Registry
from ..files.schema import DIRECTIONS, HIGHER, LOWER
from ..files.store import annotate
from ..measures import effects, localisation, words
from ..measures.maps import checked
from .faithfulness import progressive_occlusion, removal_fill
from .inputs import CURVES, Inputs, unmet


@dataclass(frozen=True, kw_only=True)
class Metric(Entry):
    """A registered metric of maps of one side, ``function(heat, *needs)``; see ``metric``."""

    what: ClassVar = "metric"
    direction: str
    meaning: str
    units: str
    needs: tuple[str, ...]
    of: str
    whole: float | None
    limits: tuple[float, float] | None


METRICS: Registry[Metric] = Registry(__package__)


def metric(
    direction: str,
    meaning: str,
    units: str = "1",
    needs: Sequence[str] = (),
    of: str | Sequence[str] = "image",
    whole: float | None = None,
    limits: tuple[float, float] | None = None,
) -> Callable:
    """Register the decorated function as a metric under its own name: from then on ``evaluate`` knows it, and tables,
    leaderboards and the explorer read from the results what it says of itself.

    The function takes maps (n, explainers, rows, cols), of the text (n, explainers, tokens), and what it needs, in this
    order, and gives a number for each sample and explainer (n, explainers), NaN for none.

    Parameters
    ----------
    direction : "higher is better", "lower is better", or "neither", by which nothing is ranked. meaning : in a few words.
    units : "1" for none.
    of : "image" or "text"; for both, ("image", "text"), that of the text is called ``word_`` and the name.
    whole : of a metric that is all or nothing what a hit counts, so that its mean is a share and has Wilson's interval.
    limits : between which its values lie by its definition, so that no interval passes them; None for none.
    needs : each computed once for all metrics, and only for those that are wanted:
        - planted truth: "coverage" (n, 1, rows, cols), the share of each patch that named objects take up; "objects" (n,
          objects, rows, cols), the same for each object; "named" (n, objects), whether the caption names it;
        - interventions, of planted scenes alone: "effects" (n, objects + 1), what the cosine falls by when the scene is drawn
          again without each object and, last, without the corner mark, NaN for none; "units" (n, objects + 1, rows, cols),
          the share of each patch that these take up;
        - "words" (n, tokens), the strings;
        - of the model: "fraction" (steps,), "deletion_curve" and "insertion_curve" (n, explainers, steps), which are
          stored too; "confidences", drop and increase (n, explainers) each;
        - "clip", "pixels" (n, 3, H, W), "tokens" (n, context) and "scenes", to run the model itself; what only planted scenes
          hold, such as ``object_x``, photographs lack: give NaN then;
        - the arguments "steps", "fill", "batch_size", "seed" and "progress" of ``evaluate``.

    Raises ValueError for an unknown direction, side or need. A second function of the same name takes the first one's place.

    Examples
    --------
    >>> import xaikit as xk
    >>> @xk.evaluation.metric("higher is better", "share of the hot part that lies on named objects", needs=("coverage",))
    ... def hot_on_objects(heat, coverage):
    ...     hot = heat > heat.max((2, 3), keepdims=True) / 2
    ...     return (hot * coverage).sum((2, 3)) / hot.sum((2, 3))
    >>> clip, scenes = xk.load_clip("tiny-clip"), xk.draw_scenes(2, seed=0)
    >>> heat = xk.explain(["edge", "centre"], clip, scenes.image, scenes.caption)
    >>> xk.evaluate(heat, clip, scenes, metrics="hot_on_objects").hot_on_objects.attrs["units"]
    '1'
    >>> xk.evaluation.metrics.METRICS.remove("hot_on_objects")
    """
    check_choices(direction=(direction, DIRECTIONS))
    sides = (of,) if isinstance(of, str) else tuple(of)
    for side in sides:
        check_choices(of=(side, SIDES))
    for need in needs:
        check_choices(needs=(need, Inputs.NAMES))

    limits = (0.0, whole) if whole else limits
    about = {"direction": direction, "meaning": meaning, "units": units, "needs": tuple(needs)}
    about |= {"whole": whole, "limits": limits}

    def register(function: Callable) -> Callable:
        for side in sides:
            name = f"word_{function.__name__}" if len(sides) > 1 and side == "text" else function.__name__
            METRICS.add(Metric(name, function, of=side, **about))
        return function

    return register


def all_metrics(of: str) -> dict[str, Metric]:
    """The metrics of maps of one side, by name, in the order in which they were registered."""
    return {name: one for name, one in METRICS.all().items() if one.of == of}


def measurable(scenes: xr.Dataset, metrics: Sequence[str], of: str = "image") -> list[str]:
    """Those of the metrics (names) that these scenes allow: photographs without masks none that compares maps with masks.

    Examples
    --------
    >>> xk.evaluation.measurable(scenes.drop_vars("object_mask"), ["energy", "deletion_auc"])
    ['deletion_auc']
    """
    known = all_metrics(of)
    check_names(tuple(known), metrics=metrics)
    lacking = unmet(scenes, {need for name in metrics for need in known[name].needs})
    return [name for name in metrics if not {*known[name].needs} & {*lacking}]


def evaluate(
    heat: xr.DataArray,
    clip: Clip,
    scenes: xr.Dataset,
    steps: int = 16,
    fill: str | None = None,
    batch_size: int = 256,
    seed: int = 0,
    progress: bool = False,
    metrics: str | Sequence[str] | None = None,
) -> xr.Dataset:
    """Measure explanations against the scenes' planted truth and against the model.

    Parameters
    ----------
    heat : maps of the image (sample, [explainer,] row, col), or of the text (sample, [explainer,] token), as
        ``explain`` gives them, of the same samples as ``scenes``.
    steps, fill, batch_size, seed : of deletion and insertion, see ``deletion_insertion``.
    metrics : the name of the one wanted, or names, None for all; those that need the model run it only where they are. For scenes without
        masks of the objects, such as photographs, all means all but those that need masks; for those that can't be drawn
        again, which photographs and scenes of old stores can't, all but those that need interventions. These are among all
        since they cost little: each scene is drawn and encoded once more an object, for all explainers together, where
        deletion and insertion take two images a step for each explainer.

    Returns
    -------
    Dataset of the ``evaluation`` schema: one variable a metric (sample, explainer) with its ``score_direction``, and
    the deletion and insertion curves. For images: the localisation metrics against the named objects,
    ``smallest_share`` of them, ``flat`` for maps that say nothing, the areas under both curves, ``confidence_drop`` and
    ``confidence_increase``, ``occlusion``, how much more cosine is lost without the hottest 5 to 25 % of the patches
    than without random ones (mean over these shares), and against interventions ``effect_correlation``, ``best_object`` and
    ``unused_heat``. For texts: ``content_share``, and the areas, curves and
    confidences as ``word_deletion_auc`` and so on. And what was added by ``metric``. What needs other models or maps
    stands by itself: hallucination, sanity, stability, completeness, cost, retrieval.

    Raises ValueError for maps of other samples, of another shape, or with NaN, for an impossible fill or steps, and for a
    metric by name that needs masks or interventions where the scenes don't allow it.

    Examples
    --------
    >>> import xaikit as xk
    >>> clip, scenes = xk.load_clip("tiny-clip"), xk.draw_scenes(2, seed=0)
    >>> heat = xk.explain("grad_eclip", clip, scenes.image, scenes.caption)
    >>> list(xk.evaluate(heat, clip, scenes, metrics=["energy", "deletion_auc"]))
    ['energy', 'fraction', 'deletion_curve', 'deletion_auc']
    """
    heat = checked(heat, scenes)
    check_good(scenes.image)
    check_whole(1, batch_size=batch_size)
    check_whole(0, seed=seed)
    of = "text" if "token" in heat.dims else "image"
    given_metrics, metrics = metrics, [metrics] if isinstance(metrics, str) else metrics
    known = all_metrics(of)
    lacking = unmet(
        scenes, {need for name in known if metrics is None or name in metrics for need in known[name].needs}
    )
    blind = {name: lacking[need] for name, one in known.items() for need in one.needs if need in lacking}
    wanted = {*known} - {*blind} if metrics is None else {*metrics}
    if not wanted or wanted - {*known}:
        raise ValueError(f"metrics={given_metrics!r}: give names, or None for all; the names are {', '.join(known)}")
    if first := next((name for name in blind if name in wanted), None):
        raise ValueError(f"the metric {first!r} {blind[first]}")
    fill = removal_fill(fill, of)
    inputs = Inputs(heat, clip, scenes, of, steps, fill, batch_size, seed, progress)
    out = xr.Dataset(coords={"sample": heat.sample.values, "explainer": heat.explainer.values})
    word = "word_" if of == "text" else ""  # names of their own, so that measures of both sides fit into one store
    for one in (one for name, one in known.items() if name in wanted):
        given = {need: getattr(inputs, need) for need in one.needs}
        for curve in (curve for curve in CURVES if curve in given):
            dims = [f"{word}step" if dim == "step" else dim for dim in CURVES[curve]]
            out[f"{word}{curve}"] = (dims, given[curve])
        values = np.asarray(one.function(heat.values, *given.values()), float)
        one.checked(values, np.ndarray, {"samples": len(heat), "explainers": heat.sizes["explainer"]})
        out[one.name] = score_variable(
            ("sample", "explainer"), values, one.meaning, one.direction, one.units, one.limits, one.whole
        )
    return annotate(out, "evaluation", clip, parameters={"steps": steps, "fill": fill, "seed": seed})


def score_variable(
    dims: Sequence[str],
    values,
    meaning: str,
    direction: str,
    units: str = "1",
    limits: tuple[float, float] | None = None,
    whole: float | None = None,
) -> tuple:
    """What a dataset takes as a variable of the ``evaluation`` schema: dimensions, values, and what they mean; whole, limits :
    as in ``metric``."""
    about = {"long_name": meaning, "units": units, "score_direction": direction}
    return dims, values, about | ({"limits": [*limits]} if limits else {}) | ({"whole": whole} if whole else {})


BOTH = ("image", "text")
GRID, USED = ("coverage",), ("units", "effects")
SHARE, CORRELATION = (0.0, 1.0), (-1.0, 1.0)  # limits
metric(HIGHER, "hottest patch lies on a named object", needs=GRID, whole=1.0)(localisation.pointing_game)
for function, needs, meaning in (
    (localisation.energy, GRID, "share of heat inside the named objects"),
    (localisation.iou_best, GRID, "IoU with the named objects at the best threshold"),
    (localisation.iou_otsu, GRID, "IoU with the named objects at Otsu's threshold"),
    (localisation.average_precision, GRID, "average precision of the patches of named objects"),
    (localisation.energy_of_possible, GRID, "energy above a flat map's, of what a patch grid can give above it"),
    (localisation.iou_of_possible, GRID, "IoU at the best threshold, of what the patch grid allows"),
    (localisation.auroc, GRID, "how often a patch of a named object is hotter than another"),
    (localisation.smallest_share, ("objects", "named"), "heat on the least heated named object, of its fair share"),
    (
        effects.effect_correlation,
        USED,
        "Spearman correlation of heat on objects with what the model loses without them",
    ),
):
    least = {localisation.energy_of_possible: -np.inf, effects.effect_correlation: -1.0}.get(function, 0.0)
    metric(HIGHER, meaning, needs=needs, limits=(least, 1.0))(function)
metric(HIGHER, "the hottest object is the one that the model loses most without", needs=USED, whole=1.0)(
    effects.best_object
)
metric(LOWER, "share of the heat on objects that lies on those without an effect", needs=USED, limits=SHARE)(
    effects.unused_heat
)
metric(HIGHER, "share of word heat on content words", needs=("words",), of="text", limits=SHARE)(words.content_share)


@metric(LOWER, "whether the map is flat, and says nothing", whole=1.0)
def flat(heat: np.ndarray) -> np.ndarray:
    """1 where all values of a map are the same, else 0."""
    return np.ptp(heat, axis=(2, 3)) == 0


@metric(LOWER, "area under the deletion curve", needs=("fraction", "deletion_curve"), of=BOTH, limits=CORRELATION)
def deletion_auc(heat: np.ndarray, fraction: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """See ``deletion_insertion``."""
    return np.trapezoid(curve, fraction)


@metric(HIGHER, "area under the insertion curve", needs=("fraction", "insertion_curve"), of=BOTH, limits=CORRELATION)
def insertion_auc(heat: np.ndarray, fraction: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """See ``deletion_insertion``."""
    return np.trapezoid(curve, fraction)


@metric(LOWER, "cosine lost when only the hot part is left, times 100", needs=("confidences",), of=BOTH)
def confidence_drop(heat: np.ndarray, confidences: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """See ``confidence_change``."""
    return confidences[0]


@metric(HIGHER, "whether the cosine rises then", "percent", needs=("confidences",), of=BOTH, whole=100.0)
def confidence_increase(heat: np.ndarray, confidences: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """See ``confidence_change``."""
    return confidences[1]


@metric(
    HIGHER,
    "cosine lost by occluding the hottest patches, beyond random ones",
    needs=("clip", "pixels", "tokens", "fill", "batch_size", "seed"),
)
def occlusion(
    heat: np.ndarray, clip: Clip, pixels: Tensor, tokens: Tensor, fill: str, batch_size: int, seed: int
) -> np.ndarray:
    """See ``progressive_occlusion``; the mean over its shares."""
    choices = {"fill": fill, "batch_size": batch_size, "seed": seed}
    _, occluded, random = progressive_occlusion(clip, heat, pixels, tokens, **choices)
    return (random[:, None] - occluded).mean(-1)
