"""Whether the model needs the cells that a token's map calls important: deletion and insertion of image cells.

Source: Petsiuk et al., RISE, 2018, with the log-probability of one answer token as the score and cells as the units.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from ..files.checks import check_whole
from ..measures.localisation import cell_shares
from ..measures.maps import ranks
from ..mllm.family import View
from ..mllm.model import Mllm
from ..mllm.passes import teacher_forced
from .faithfulness import deletion_and_insertion, joined_curves

# Of images (b,) with the cells kept in them (b, cells): log-probabilities (k,) of tokens, given each one's row in b.
Reader = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@torch.no_grad()
def token_deletion_insertion(
    mllm: Mllm,
    views: Sequence[View],
    answers: Sequence[Sequence[int]],
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
    steps + 1), float32, NaN for tokens not measured. Takes explainers * 2 * (steps - 1) passes a token, and two passes a
    sample for the ends, the whole image and the bare fill. Raises ValueError for arrays that don't fit together,
    steps beyond the cells, views of several grids and answers that don't fit.
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
    read = _reader(mllm, views, answers)
    of, which = torch.from_numpy(sample), torch.from_numpy(token)
    ends = _ends(read, of, which, cells, batch_size)
    middle = torch.empty(len(of) * versions)
    name = "deletion and insertion of cells"
    for start in tqdm(range(0, len(middle), batch_size), disable=not progress, desc=name):
        index = torch.arange(start, min(start + batch_size, len(middle)))
        pair, version = index // versions, index % versions
        middle[index] = read(of[pair], keep(pair, version), torch.arange(len(index)), which[pair])
    both = joined_curves(middle.view(len(of), heat.shape[1], 2, steps - 1), ends)
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
    for name, meaning, better in (
        ("token_deletion_auc", "area under the deletion curve of a token's log-probability", "lower"),
        ("token_insertion_auc", "area under the insertion curve of a token's log-probability", "higher"),
        ("insertion_minus_deletion", "area between a token's insertion and deletion curves", "higher"),
    ):
        out[name].attrs = {"long_name": meaning, "units": "nat", "score_direction": f"{better} is better"}
    return out


def _check(views: Sequence[View], answers: Sequence[Sequence[int]], heat: np.ndarray, words: np.ndarray) -> None:
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


def _reader(mllm: Mllm, views: Sequence[View], answers: Sequence[Sequence[int]]) -> Reader:
    """What reads log-probabilities off perturbed images: ``read(image, keep, row, token)``."""
    pixels = torch.stack([view.vision["pixel_values"] for view in views])
    # Masked ones are the mask itself, in pixels, so that one call serves images of several samples.
    ones = replace(views[0], vision=views[0].vision | {"pixel_values": torch.ones_like(pixels[0])})
    weight = mllm.output_weight.float().T

    def read(image: Tensor, keep: Tensor, row: Tensor, token: Tensor) -> Tensor:
        seen = {"pixel_values": pixels[image] * mllm.family.masked(ones, keep)["pixel_values"]}
        last = torch.zeros_like(image).scatter_reduce(0, row, token, "amax").tolist()
        index = image.tolist()
        given = [answers[i][:end] for i, end in zip(index, last, strict=True)]
        chosen = [views[i] for i in index]
        hidden = teacher_forced(mllm, chosen, given, mllm.family.encode_pixels(views[0], seen)).hidden
        of = image[row].tolist()
        position = torch.tensor([len(views[i].ids) - 1 for i in of]) + token
        ids = torch.tensor([answers[i][t] for i, t in zip(of, token.tolist(), strict=True)], device=hidden.device)
        logits = hidden[row.to(hidden.device), position.to(hidden.device)].float() @ weight
        return logits.log_softmax(-1).gather(1, ids[:, None])[:, 0].cpu()

    return read


def _ends(read: Reader, sample: Tensor, token: Tensor, cells: int, batch_size: int) -> Tensor:
    """Log-probabilities (k, 2) of tokens given the whole image and the bare fill, from two passes a sample."""
    images, image = sample.unique(return_inverse=True)
    ends = torch.empty(len(sample), 2)
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        mine = ((image >= start) & (image < start + batch_size)).nonzero()[:, 0]
        for column, kept in enumerate((True, False)):
            keep = torch.full((len(part), cells), kept)
            ends[mine, column] = read(part, keep, image[mine] - start, token[mine])
    return ends
