"""Maps of answer tokens measured: on planted scenes by the objects that the words name, and by removing the image cells that
they call hot.

Source: deletion and insertion of Petsiuk et al., RISE, 2018, with the log-probability of one answer token as the score and
cells as the units.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from ..clip.pairs import as_sequence, labels_of, one_each
from ..clip.perturbation import Keep, scores_in_batches
from ..files.checks import check_whole
from ..files.schema import HIGHER, LOWER
from ..files.store import annotate
from ..measures.localisation import cell_shares
from ..measures.maps import by_explainer, ranks
from ..measures.planted_tokens import context_auroc, planted_word_scores, word_classes
from ..measures.token_iou import token_iou
from ..measures.words import Lemmatiser, Tagger, name_tokens, spoken_words
from ..mllm.explanation import explain_all_tokens
from ..mllm.model import Mllm
from ..mllm.passes import log_probabilities, teacher_forced
from ..mllm.view import Answers, View
from ..samples.captions import PADDING
from .faithfulness import deletion_and_insertion, joined_curves

SCENES_AT_ONCE = 32  # explained and then measured, which bounds the memory
AREAS = {
    "token_deletion_auc": ("area under the deletion curve of a token's log-probability", LOWER),
    "token_insertion_auc": ("area under the insertion curve of a token's log-probability", HIGHER),
    "insertion_minus_deletion": ("area between a token's insertion and deletion curves", HIGHER),
}


def measure_tokens(
    mllm: Mllm,
    scenes: xr.Dataset,
    methods: Sequence[str] | Mapping[str, Any] | None = None,
    prompts: str | Sequence[str] = "describe the picture",
    batch_size: int = 16,
    progress: bool = False,
    max_new_tokens: int = 64,
    errors: str = "raise",
    grid: tuple[int, int] | None = None,
) -> xr.Dataset:
    """Word by word, how well maps of the model's answers lie on the objects that the words name.

    scenes : of the ``inputs`` schema. the rest as in ``explain_all_tokens``; scenes that it can't explain, with
    errors="record", are NaN. Maps of different methods can be compared only on the same ``grid``.

    Returns the measures of ``planted_word_scores`` (sample, explainer, token), with ``token_text`` as a coordinate;
    ``exact`` (sample), whether the answer is the caption; and ``context_auroc`` (sample, explainer), how well rank overlap
    tells contexts on a word's own object from others, and ``context_auroc_across``, the same among words of different
    classes (size, colour, shape); NaN for methods that don't compare rankings.

    Examples
    --------
    >>> import xaikit as xk
    >>> scenes = xk.draw_descriptions(2, seed=1)
    >>> xk.evaluation.measure_tokens(xk.load_mllm(), scenes, ["lens"]).exact.values.tolist()
    [True, True]
    """
    n = scenes.sizes["sample"]
    prompts = one_each(prompts, n, "prompt", labels_of(scenes.image))
    choices = {"batch_size": batch_size, "max_new_tokens": max_new_tokens, "errors": errors, "grid": grid}
    parts = []
    for start in tqdm(range(0, n, SCENES_AT_ONCE), disable=not progress, desc="scenes"):
        some = slice(start, start + SCENES_AT_ONCE)
        part = scenes.isel(sample=some)
        parts.append(_measured(part, explain_all_tokens(mllm, part.image, prompts[some], methods, **choices)))
    places = [part.assign_coords(token=np.arange(part.sizes["token"])) for part in parts]
    padding = {"token_text": "", "kind": "", "token_object": PADDING}
    together = xr.concat(places, "sample", join="outer", fill_value=padding, combine_attrs="override")
    return together.drop_vars("token")


def measured_words(answers: xr.Dataset, scenes: xr.Dataset) -> xr.Dataset:
    """``planted_word_scores`` of the maps that ``explain_tokens`` or ``explain_all_tokens`` gave for these scenes.

    Examples
    --------
    >>> import xaikit as xk
    >>> scenes = xk.draw_descriptions(2, seed=1)
    >>> answers = xk.explain_tokens(xk.load_mllm(), scenes.image, method="attention")
    >>> xk.evaluation.measured_words(answers, scenes).own_iou.dims
    ('sample', 'explainer', 'token')
    """
    answers = by_explainer(answers)
    named = name_tokens(answers.answer_text.values, scenes)
    words = planted_word_scores(
        answers.token_heat.values, named.token_object.values, named.token_kind.values, scenes.object_mask.values,
        answers.region.values, answers.explainer.values.tolist(),
    )  # fmt: skip
    return words.assign_coords(
        sample=answers.sample,
        token_text=(("sample", "token"), np.char.strip(answers.answer_text.values.astype(str))),
        token_object=(("sample", "token"), named.token_object.values),
    )


def measure_answers(
    answers: xr.Dataset,
    masks: Sequence[np.ndarray],
    categories: Mapping[str, int],
    tagger: Tagger | None = None,
    lemmatiser: Lemmatiser | None = None,
) -> xr.Dataset:
    """How well maps of free answers lie on labelled objects: ``token_iou`` of the maps that ``explain_tokens`` or
    ``explain_all_tokens`` gave, where no planted truth says which words name what.

    masks : for each sample (y, x) whole numbers, the label of the object that each pixel shows, 0 for none. categories : the
    label of each name, such as {"dog": 18}. tagger : a word to its Penn Treebank tag; None for lists of function words. None
    comes with xaikit; ``PatternTagger`` of textblob brings its own lexicon, so that nothing is fetched: with
    ``tag = textblob.en.taggers.PatternTagger().tag`` it is ``lambda word: dict(tag(word)).get(word, "")``. lemmatiser : a noun
    to its lemma.

    Returns ``object_iou`` (sample, explainer, mention) and ``function_iou`` (sample, explainer, word), NaN where an answer has
    fewer; ``measures.token_iou.token_iou_summary`` takes them together. Samples that couldn't be explained are NaN.
    Raises ValueError as ``token_iou``.

    Examples
    --------
    >>> import numpy as np, xaikit as xk
    >>> scenes = xk.draw_descriptions(2, seed=1)
    >>> answers = xk.explain_tokens(xk.load_mllm(), scenes.image, method="attention")
    >>> masks = np.argmax(np.pad(scenes.object_mask, [(0, 0), (1, 0), (0, 0), (0, 0)]), 1)
    >>> found = xk.evaluation.measure_answers(answers, masks, {"square": 1}, {"square": "NN", "a": "DT"}.get)
    >>> found.object_iou.dims, found.function_iou.shape
    (('sample', 'explainer', 'mention'), (2, 1, 2))
    """
    answers = by_explainer(answers)
    n, names = answers.sizes["sample"], answers.explainer.values.tolist()
    if len(masks) != n:
        raise ValueError(f"{n} answers but {len(masks)} masks: give one for each")
    entries = {"object_iou": {}, "function_iou": {}}
    for sample, named in product(range(n), range(len(names))):
        one = answers.isel(sample=sample, explainer=named)
        texts = [str(text) for text in one.answer_text.values[one.answer_id.values >= 0]]
        if not texts:
            continue
        rows, cols = one.grid.values
        maps = one.token_heat.values[: len(texts), :rows, :cols]
        found = token_iou(maps, texts, masks[sample], categories, None, tagger, lemmatiser, one.region.values)
        for name, values in entries.items():
            values[sample, named] = getattr(found, name)
    out = xr.Dataset(coords={"sample": answers.sample, "explainer": names})
    for (name, values), dim in zip(entries.items(), ("mention", "word"), strict=True):
        table = np.full((n, len(names), max(map(len, values.values()), default=0)), np.nan)
        for place, some in values.items():
            table[place][: len(some)] = some
        out[name] = ("sample", "explainer", dim), table
    return out


def measure_faithfulness(
    mllm: Mllm,
    images,
    answers: xr.Dataset,
    words: np.ndarray | None = None,
    steps: int = 8,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Whether the model needs the cells that maps call hot: ``token_curve_areas`` (sample, explainer) of the answers that
    ``explain_tokens`` or ``explain_all_tokens`` gave for these images.

    words : (n, answer tokens) bool, the tokens to measure, None for all. Finer maps are brought to the model's own grid by
    area. Samples that couldn't be explained are NaN. The rest as in ``token_deletion_insertion``.

    Examples
    --------
    >>> import xaikit as xk
    >>> mllm, image = xk.load_mllm(), xk.draw_descriptions(1, seed=1).image
    >>> answers = xk.explain_tokens(mllm, image, method="attention")
    >>> list(xk.evaluation.measure_faithfulness(mllm, image, answers, steps=2))
    ['token_deletion_auc', 'token_insertion_auc', 'insertion_minus_deletion']
    """
    answers = by_explainer(answers)
    real = answers.answer_id.values >= 0
    words = real if words is None else np.asarray(words)
    named = labels_of(images) is not None and labels_of(answers.answer) is not None
    if named and not np.array_equal(images.sample, answers.sample):
        raise ValueError(
            "the images are of other samples than the answers, or in another order: give those that were explained"
        )
    images = as_sequence(images)
    if len(images) != len(real):
        raise ValueError(f"{len(images)} images but {len(real)} answers: give the images that were explained")
    good = np.flatnonzero(real.any(1))  # what couldn't be explained has no answer
    views = {i: mllm.family.view(images[i], str(answers.prompt.values[i])) for i in good}
    deletion, insertion = np.full((2, *answers.token_heat.shape[:3], steps + 1), np.nan, np.float32)
    for grid in dict.fromkeys(view.grid for view in views.values()):
        index = [i for i, view in views.items() if view.grid == grid]
        rows, cols = answers.grid.values[index[0]]
        heat = reduce_to_grid(answers.token_heat.values[index, ..., :rows, :cols], grid)
        chosen = [views[i] for i in index]
        ids = [answers.answer_id.values[i][real[i]].tolist() for i in index]
        fraction, deletion[index], insertion[index] = token_deletion_insertion(
            mllm, chosen, ids, heat, words[index], steps, batch_size, seed, progress
        )
    areas = token_curve_areas(fraction, deletion, insertion, answers.explainer.values.tolist())
    return annotate(areas.assign_coords(sample=answers.sample), "evaluation")


@torch.no_grad()
def token_deletion_insertion(
    mllm: Mllm,
    views: Sequence[View],
    answers: Answers,
    heat: np.ndarray,
    words: np.ndarray,
    steps: int = 8,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-probability (nat) of answer tokens while the hottest cells of their own maps are removed from the image, and
    while only they are there.

    Parameters
    ----------
    views, answers : n views of one scale and grid, and their token ids. A token's answer up to it is given.
    heat : (n, explainers, tokens, rows, cols) on the views' grid, see ``reduce_to_grid``.
    words : (n, tokens) bool, the tokens to measure.
    steps : in each the same share of cells goes, hottest first; cells that are gone have the mean colour.
    batch_size : perturbed images at once; bounds the memory. seed : of the order of equally hot cells.

    Returns the shares of cells (steps + 1,), and the curves of deletion and of insertion, (n, explainers, tokens,
    steps + 1), float32, NaN for tokens not measured. Takes explainers * 2 * (steps - 1) passes a token, and two more for the
    ends, the whole image and the bare fill. Raises ValueError for arrays that don't fit together, steps beyond the cells,
    views of several grids and answers that don't fit.
    """
    _check(views, answers, heat, words)
    cells = len(views[0].image_positions)
    check_whole(1, cells, steps=steps)
    check_whole(1, batch_size=batch_size)
    counts = torch.linspace(0, cells, steps + 1).round().long()
    fraction = (counts / cells).numpy()
    deletion, insertion = (np.full((*heat.shape[:3], steps + 1), np.nan, np.float32) for _ in range(2))
    if not words.any():
        return fraction, deletion, insertion
    sample, token = np.nonzero(words)
    # Tokens at about the same position go together, so that little of a batch is padding.
    order = np.argsort(np.array([len(view.ids) for view in views])[sample] + token, kind="stable")
    sample, token = sample[order], token[order]
    place = torch.from_numpy(ranks(heat[sample, :, token], seed))
    keep, versions = deletion_and_insertion(place, counts[None, 1:-1])
    ends = torch.tensor([True, False]).view(1, 2, 1).expand(1, 2, cells)

    def read(pair: Tensor, kept: Tensor) -> Tensor:
        """The log-probability of each pair's own token, given the answer before it."""
        of, last = (each[pair.numpy()].tolist() for each in (sample, token))
        seen = mllm.family.masked([views[i] for i in of], kept)
        states = teacher_forced(mllm, seen, [answers[i][: end + 1] for i, end in zip(of, last, strict=True)])
        return states.of_answers(log_probabilities(mllm, states))[range(len(of)), last]

    def scores(kept: Keep, versions: int, name: str = "") -> Tensor:
        return scores_in_batches(read, lambda found, _: found, place, kept, versions, batch_size, name)

    middle = scores(keep, versions, "deletion and insertion of cells" if progress else "")
    both = joined_curves(middle.view(len(place), heat.shape[1], 2, steps - 1), scores(ends, 2))
    deletion[sample, :, token], insertion[sample, :, token] = both
    return fraction, deletion, insertion


def reduce_to_grid(heat: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Maps (..., rows, cols) of any grid as means over the area of each cell of another ``grid`` of the same image.

    Cells that straddle count by their area in each; the mean of a map stays. Real numbers, float32 stays float32. Raises
    ValueError for a grid below 1 x 1.
    """
    check_whole(1, rows=grid[0], cols=grid[1])
    if heat.shape[-2:] == tuple(grid):
        return heat
    none, all_ = np.zeros(1), np.ones(1)
    down, across = (cell_shares(size, cells, none, all_)[0] for size, cells in zip(heat.shape[-2:], grid, strict=True))
    return (down @ heat @ across.T).astype(np.result_type(heat.dtype, np.float32))


def token_curve_areas(
    fraction: np.ndarray, deletion: np.ndarray, insertion: np.ndarray, explainers: Sequence[str]
) -> xr.Dataset:
    """Areas under the curves of ``token_deletion_insertion``, mean over each sample's measured tokens.

    explainers : their names. Returns ``token_deletion_auc``, ``token_insertion_auc`` and ``insertion_minus_deletion``
    (sample, explainer), in nat, by the trapezoid rule over the share of cells; NaN for samples without a measured token.
    """
    out = xr.Dataset(coords={"sample": np.arange(len(deletion)), "explainer": list(explainers)})
    for kind, curve in (("deletion", deletion), ("insertion", insertion)):
        area = xr.DataArray(np.trapezoid(curve, fraction), dims=("sample", "explainer", "token"))
        out[f"token_{kind}_auc"] = area.mean("token")
    out["insertion_minus_deletion"] = out.token_insertion_auc - out.token_deletion_auc
    for name, (meaning, direction) in AREAS.items():
        out[name].attrs = {"long_name": meaning, "units": "nat", "score_direction": direction}
    return out


def _measured(scenes: xr.Dataset, answers: xr.Dataset) -> xr.Dataset:
    words = measured_words(answers, scenes)
    exact = {"long_name": "whether the answer is the caption", "units": "1"}
    words["exact"] = "sample", answers.answer.values == scenes.caption.values, exact
    about = {"units": "1", "score_direction": HIGHER}
    meaning = "AUROC of rank overlap, contexts on the word's own object against others"
    overlap, classes = _among_words(answers), word_classes(spoken_words(answers.answer_text.values))
    for name, known, ending in (("", None, ""), ("_across", classes, ", words of two classes")):
        found = np.full(overlap.shape[:2], np.nan)
        for index in np.flatnonzero(np.isfinite(overlap).any((0, 2, 3))):  # the others don't compare rankings
            found[:, index] = context_auroc(overlap[:, index], words.token_object.values, known)
        words[f"context_auroc{name}"] = ("sample", "explainer"), found, about | {"long_name": meaning + ending}
    return words


def _among_words(answers: xr.Dataset) -> np.ndarray:
    """The rank overlap of an answer's tokens with one another, (sample, explainer, token, token)."""
    written = (answers.answer_id.values >= 0).sum(1)
    prompt = (answers.context_text.values != "").sum(1) - written
    place = prompt[:, None] + np.arange(answers.sizes["answer_token"])
    place = np.minimum(place, answers.sizes["context_token"] - 1)
    return np.take_along_axis(answers.rank_overlap.values, place[:, None, None], 3)


def _check(views: Sequence[View], answers: Answers, heat: np.ndarray, words: np.ndarray) -> None:
    n, grids = len(views), sorted({view.grid for view in views})
    if n != len(answers):
        raise ValueError(f"{n} views and {len(answers)} answers: as many of each are needed")
    if len(grids) > 1:
        raise ValueError(f"views of the grids {', '.join(f'{r} x {c}' for r, c in grids)}: all need the same")
    rows, cols = grids[0]
    if heat.ndim != 5 or len(heat) != n or heat.shape[3:] != (rows, cols):
        raise ValueError(f"heat of shape {heat.shape}: ({n}, explainers, tokens, {rows}, {cols}) is needed")
    if words.dtype != bool or words.shape != (n, heat.shape[2]):
        raise ValueError(
            f"words of shape {words.shape} and type {words.dtype}: bool ({n}, {heat.shape[2]}) is needed, as many tokens"
            " as the heat has"
        )
    lengths = np.array([len(answer) for answer in answers])
    beyond = words & (np.arange(heat.shape[2]) >= lengths[:, None])
    if beyond.any():
        sample, token = np.argwhere(beyond)[0]
        raise ValueError(f"words asks for token {token} of sample {sample}, whose answer has {lengths[sample]} tokens")
    if heat.dtype.kind not in "fiu" or not np.isfinite(heat[np.nonzero(words)[0], :, np.nonzero(words)[1]]).all():
        raise ValueError("the heat of a token to measure holds NaN or infinite values: all must be finite")
