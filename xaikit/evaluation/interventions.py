"""What a model uses of a planted scene: the change of its answer when the scene is drawn again without an object, with another
thing in its place, or without the corner mark; and how far occluding the object says the same.

Sources: Hesse et al., FunnyBirds, 2023 (parts of drawn birds taken away); Arras et al., CLEVR-XAI, 2022 (drawn scenes as
truth for explanations).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from ..clip.model import Clip
from ..clip.perturbation import cosine_with, filled, perturbed_images, scores_in_batches
from ..clip.score import embed_texts
from ..clip.towers import tower
from ..files.checks import FILLS, check_choices, check_names, check_number, check_whole
from ..files.store import annotate
from ..measures.effects import DIGITS, MARGIN, has_effect
from ..measures.estimates import mean_of
from ..measures.intervals import share_interval
from ..measures.localisation import TOUCHED, coverage
from ..measures.maps import rank_correlation
from ..samples.interventions import check_drawn, drawn_as, layout_of, layout_replaced, layout_without, newcomers
from .confidence import TIE

SCORES = ("similarity", "rank")
CHANGES = ("absent", "replaced")
# Of images (b, y, x, rgb) and the places (b,) of their scenes among all: the larger, the surer the model (b,).
Answer = Callable[[np.ndarray, np.ndarray], np.ndarray]


def object_effects(
    clip: Clip,
    scenes: xr.Dataset,
    score: str = "similarity",
    candidates: Sequence[str] | np.ndarray | None = None,
    draws: int = 4,
    seed: int = 0,
    batch_size: int = 256,
    progress: bool = False,
) -> xr.Dataset:
    """How much each object supports the caption: by how much the score falls when the scene is drawn again without it.

    Parameters
    ----------
    scenes : planted scenes, as ``draw_scenes`` gives them, n of them.
    score : "similarity", the cosine of image and caption; or "rank", the place of the caption among the candidates that is
        nearest to the image, from 1 on.
    candidates : for "rank" texts, the same for all scenes, or own ones (n, k), such as ``scenes.foil.values[:, None]``; None
        for all captions of the scenes. The caption itself need not be among them.
    draws : things that take an object's place in turn, the effect being their mean, see ``newcomers``; 0 for none. seed : of
        these. batch_size : images drawn and encoded at once, which bounds the memory.

    Returns
    -------
    Dataset of the ``effects`` schema: ``score`` (sample) of the scene as it is; ``absent`` and ``replaced`` (sample, object),
    what it falls by when the object isn't there, or another thing is in its place, NaN for slots without an object; and
    ``mark`` (sample), what it falls by without the corner mark, NaN for scenes that have none. Positive: it supports the
    caption (of ranks: which comes further behind without it). Each caption is encoded once, and 1 + objects * (1 + draws)
    images a scene.

    Raises ValueError for scenes that aren't planted, an unknown score, candidates without need or of another number of
    scenes, more draws than there are things, and captions that the model can't read.

    Examples
    --------
    >>> found = xk.evaluation.object_effects(clip, scenes)
    >>> scenes.caption.values[2].item(), scenes.object_name.values[2].tolist()
    ('a purple cross and a cyan square', ['large purple cross', 'small cyan square', 'large red triangle'])
    >>> found.absent.values[2].round(2).tolist()
    [0.3, 0.26, 0.01]
    """
    check_choices(score=(score, SCORES))
    if score == "similarity" and candidates is not None:
        raise ValueError('candidates are for score="rank": leave them out, or ask for it')
    text = embed_texts(clip, scenes.caption, batch_size).to(clip.device)
    others = None if score == "similarity" else _candidates(clip, scenes, candidates, batch_size)

    @torch.no_grad()
    def answer(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        embedding = clip.encode_image(clip.pixels(images)).float()
        cosine = (embedding * text[rows]).sum(-1)
        if others is None:
            return cosine.cpu().numpy()
        among = others if others.ndim == 2 else others[rows].mT
        nearer = (embedding[:, None] @ among)[:, 0] > cosine[:, None] + TIE
        return -1.0 - nearer.sum(-1).cpu().numpy()

    out = effects_of(scenes, answer, draws, seed, batch_size, "interventions" if progress else "")
    out["score"] = np.abs(out.score) if score == "rank" else out.score
    return annotate(out, "effects", clip, parameters={"score": score, "draws": draws, "seed": seed})


def effects_of(
    scenes: xr.Dataset, answer: Answer, draws: int = 4, seed: int = 0, batch_size: int = 256, progress: str = ""
) -> xr.Dataset:
    """What ``object_effects`` gives, of any model: ``answer(images, rows)`` gives the scores (b,) of images (b, y, x, rgb),
    the larger the better, from the places (b,) of their scenes. progress : the name of a progress bar, "" for none.
    """
    check_whole(0, draws=draws, seed=seed)
    check_whole(1, batch_size=batch_size)
    exists = check_drawn(scenes).exists
    n = len(exists)
    row, slot = np.nonzero(exists)

    seen = scenes.drop_vars(["object_mask", "background"], errors="ignore")  # pictures alone are drawn again

    def score(rows: np.ndarray, images: Callable[[xr.Dataset, slice], np.ndarray], what: str) -> np.ndarray:
        parts = [slice(start, start + batch_size) for start in range(0, len(rows), batch_size)]
        bar = tqdm(parts, disable=not progress, desc=f"{progress}: {what}")
        scored = [answer(images(seen.isel(sample=rows[part]), part), rows[part]) for part in bar]
        return np.concatenate([np.empty(0), *scored])

    def without(some: xr.Dataset, part: slice) -> np.ndarray:
        return drawn_as(some, *layout_without(some, slot[part]))["image"]

    def replaced(some: xr.Dataset, part: slice) -> np.ndarray:
        return drawn_as(some, *layout_replaced(some, each[part], names[part]))["image"]

    def unmarked(some: xr.Dataset, part: slice) -> np.ndarray:
        return drawn_as(some.assign(mark=some.mark & False), *layout_of(some))["image"]

    whole = score(np.arange(n), lambda some, part: some.image.values, "whole")
    out = xr.Dataset({"score": ("sample", whole)}, {"sample": scenes.sample.values})

    def fall(rows: np.ndarray, left: np.ndarray, *where: np.ndarray) -> np.ndarray:
        values = np.full(exists.shape if where else n, np.nan)
        values[rows, *where] = whole[rows] - left
        return values

    out["absent"] = ("sample", "object"), fall(row, score(row, without, "absent"), slot)
    if draws:
        names = newcomers(scenes, draws, seed)[row, slot].ravel()
        each = np.repeat(slot, draws)
        other = score(np.repeat(row, draws), replaced, "replaced")
        out["replaced"] = ("sample", "object"), fall(row, other.reshape(-1, draws).mean(1), slot)
    marked = np.flatnonzero(scenes.mark.values)
    out["mark"] = "sample", fall(marked, score(marked, unmarked, "mark"))
    return out


def perturbation_agreement(
    clip: Clip,
    scenes: xr.Dataset,
    fills: Sequence[str] = FILLS,
    change: str = "absent",
    draws: int = 4,
    margin: float = MARGIN,
    seed: int = 0,
    batch_size: int = 256,
    progress: bool = False,
) -> xr.Dataset:
    """How far occluding an object changes the cosine as its absence does: whether perturbation finds what the model uses.

    All patches of which an object takes up at least ``TOUCHED`` are filled; what else lies in them goes, too, as it does in
    every test by patches.

    Parameters
    ----------
    scenes : planted scenes. fills : of ``filled``. change : the intervention, "absent" or "replaced", with ``draws`` things.
    margin : effects within this share of the scene's largest have no sign to speak of. seed : of "replaced", of the fill
        "random". batch_size : images encoded at once.

    Returns
    -------
    Dataset of the ``agreement`` schema. By fill, sample and object: ``occluded``, what the cosine falls by; by sample and
    object ``intervened``, what it falls by through the intervention. By fill and sample over the scene's objects:
    ``scene_correlation``, Spearman's of both (NaN below three objects), and ``scene_signs``, the share of objects with an
    effect that have the same sign. By fill and ``estimate``, the mean over scenes and the low and high end of its 95 %
    interval: ``rank_correlation`` (Student's t) and ``sign_agreement`` (Wilson's). That all scenes agree is no certainty.

    Raises ValueError as ``object_effects``, for an unknown fill or change, and for a margin outside 0 to 1.

    Examples
    --------
    >>> found = xk.evaluation.perturbation_agreement(clip, scenes, ["mean", "blur"])
    >>> found.rank_correlation.sel(estimate="mean").values.round(2).tolist()
    [1.0, 0.83]
    """
    check_names(FILLS, fills=fills)
    check_choices(change=(change, CHANGES))
    check_number(0, 1, "share", margin=margin)
    check_whole(1, draws=draws)
    draws = draws if change == "replaced" else 0
    effects = object_effects(clip, scenes, draws=draws, seed=seed, batch_size=batch_size, progress=progress)
    intervened = effects[change].values
    dims = {"fill": list(fills), "sample": scenes.sample.values, "estimate": ["mean", "low", "high"]}
    out = xr.Dataset({"intervened": (("sample", "object"), intervened)}, dims)
    occluded = np.stack(list(_occluded(clip, scenes, effects.score.values, fills, seed, batch_size, progress)))
    seen = np.isfinite(intervened) & np.isfinite(occluded)
    ranked, other = (np.where(seen, values.round(DIGITS), np.nan) for values in (occluded, intervened))
    correlation = np.where(seen.sum(-1) >= 3, rank_correlation(ranked, other), np.nan)
    counted = seen & has_effect(intervened, margin)
    same = (counted & (np.sign(occluded) == np.sign(intervened))).sum(-1)
    signs = np.where(counted.any(-1), same / np.maximum(counted.sum(-1), 1), np.nan)
    out["occluded"] = ("fill", "sample", "object"), occluded
    for name, overall, values, interval in (
        ("scene_correlation", "rank_correlation", correlation, _correlation_interval),
        ("scene_signs", "sign_agreement", signs, share_interval),
    ):
        out[name] = ("fill", "sample"), values
        out[overall] = ("fill", "estimate"), np.array([interval(each) for each in values])
    parameters = {"change": change, "draws": draws, "margin": margin, "seed": seed}
    return annotate(out, "agreement", clip, parameters=parameters)


def _correlation_interval(values: np.ndarray) -> tuple[float, float, float]:
    found = mean_of(values, whole=2.0, limits=(-1.0, 1.0))
    return found.value, *found.interval()


@torch.no_grad()
def _occluded(
    clip: Clip, scenes: xr.Dataset, whole: np.ndarray, fills: Sequence[str], seed: int, batch_size: int, progress: bool
) -> Iterator[np.ndarray]:
    """For each fill what the cosine falls by (n, objects) when an object's patches are filled, NaN where it has none."""
    on = object_coverage(clip, scenes.object_mask.transpose("sample", "object", "y", "x").values) >= TOUCHED
    row, slot = np.nonzero(on.any((2, 3)))
    pixels, rows = clip.pixels(scenes.image), torch.from_numpy(row).to(clip.device)
    keep = torch.from_numpy(~on[row, slot])[:, None].to(clip.device)
    score = cosine_with(embed_texts(clip, scenes.caption, batch_size).to(clip.device)[rows])
    for fill in fills:
        substitute = filled(clip, pixels, fill, seed)

        def encode(pair: Tensor, kept: Tensor, substitute: Tensor = substitute) -> Tensor:
            return clip.encode_image(perturbed_images(clip, pixels[rows[pair]], kept, substitute[rows[pair]]))

        left = scores_in_batches(encode, score, rows, keep, None, batch_size, f"occlusion: {fill}" if progress else "")
        found = np.full(on.shape[:2], np.nan)
        found[row, slot] = whole[row] - left[:, 0].numpy()
        yield found


def object_coverage(clip: Clip, masks: np.ndarray) -> np.ndarray:
    """Share of each of the model's patches that masks take up: (n, objects, y, x) bool of square images to (n, objects, rows,
    cols)."""
    described = tower(clip, "image")
    seen = tuple(pixels / size for pixels, size in zip(described.pixels, clip.image_size, strict=True))
    return coverage(masks, described.grid, seen)


def _candidates(clip: Clip, scenes: xr.Dataset, candidates, batch_size: int) -> Tensor:
    """Embeddings of the candidates, (width, k) for all scenes or (n, k, width)."""
    if isinstance(candidates, str):
        raise ValueError(f"candidates={candidates!r}: give a list of texts, or (n, k) of them")
    texts = np.unique(scenes.caption.values.astype(str)) if candidates is None else np.asarray(candidates)
    n = scenes.sizes["sample"]
    if texts.dtype.kind not in "UTO" or texts.size == 0 or texts.shape not in ((texts.size,), (n, texts.size // n)):
        raise ValueError(
            f"candidates of shape {texts.shape}: texts (k,) for all scenes, or ({n}, k) of their own, are needed"
        )
    found = embed_texts(clip, texts, batch_size).to(clip.device)
    return found.T if found.ndim == 2 else found
