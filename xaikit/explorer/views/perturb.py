"""Perturb: how much the model needs what a map calls hot. Patches are filled, or put back, hottest first, or by hand."""

import hashlib

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from ...files.names import spelled
from ...plots.measures import share_curves
from ..jobs import Job
from ..panels import LEGEND, Drawn, Panel, Spot, drawn_truth, legend, map_panel
from ..pixels import VERMILION, enlarged, figure_pixels, png
from ..sources import Subject
from ..state import State
from ..workspace import Workspace, prompt_ids, watched

MOST_STEPS = 64  # of a curve; a model with no more patches is asked after every one of them
RANDOM_ORDERS = 5  # that the curve is compared with; drawn with SEED
RANDOM_STRIDE = 4  # which of the steps random orders are scored at, and at the last
SEED = 0
FILLED_WITH = {
    "zero": "the mean colour of the training images",
    "mean": "the picture's mean colour",
    "black": "black",
    "blur": "the blurred picture",
    "random": "a random colour each",
}
DPI = 200  # of the chart, drawn twice as large as it is shown


def draw(workspace: Workspace, state: State, job: Job | None = None) -> Drawn:
    """The picture as the model gets it (each patch a spot), the map that orders the patches, and the similarity against
    the share of patches.

    The share is rounded to a whole number of patches. Up to ``MOST_STEPS`` patches the curve has a point for each number of
    them; beyond, the similarity between two of its ``MOST_STEPS`` steps is interpolated. With patches masked by hand it is
    always exact, by a forward pass. ``numbers`` are the points of both curves; the areas under them are taken over the steps
    at which both have one, so that they compare.
    Source: deletion and insertion of Petsiuk et al., RISE, 2018, as in ``evaluation.faithfulness``.
    Raises ValueError for a masked patch that the picture doesn't have.
    """
    subject, clip = workspace.subject(state, job), workspace.clip(state, job)
    from ...measures.maps import ranks

    steps = job or Job()
    steps.at(f"explaining by {state.method}", 0, 3)
    heat = workspace.heat(state, state.method, job)
    if max(state.masked, default=0) >= heat.size:
        raise ValueError(f"masked={list(state.masked)}: the picture has the patches 0 to {heat.size - 1}")
    masked = np.isin(np.arange(heat.size), state.masked).reshape(heat.shape)  # by hand
    counts = np.linspace(0, heat.size, min(heat.size, MOST_STEPS) + 1).round().astype(int)
    both = np.unique([*range(0, len(counts), RANDOM_STRIDE), len(counts) - 1])  # the steps of random orders too
    shares, deletion = counts / heat.size, state.perturbation == "deletion"

    def scores(place: np.ndarray, counts: np.ndarray) -> np.ndarray:
        keep = (place.reshape(-1, 1, *heat.shape) < counts[:, None, None]) ^ deletion
        return _similarities(workspace, state, subject, keep.reshape(-1, *heat.shape), job).reshape(-1, len(counts))

    place = ranks(heat)
    steps.at(f"{state.perturbation} of the hottest patches first", 1, 3)
    curve = scores(place, counts)[0]
    steps.at(f"{state.perturbation} in {RANDOM_ORDERS} random orders", 2, 3)
    chance = scores(ranks(np.random.default_rng(SEED).random((RANDOM_ORDERS, *heat.shape))), counts[both]).mean(0)

    count = int(state.share * heat.size + 0.5)
    shown = ((place < count) ^ deletion).reshape(heat.shape) & ~masked
    now = float(np.interp(count / heat.size, shares, curve))
    whole, bare = (curve[0], curve[-1]) if deletion else (curve[-1], curve[0])
    by_hand = together = None
    if masked.any():
        by_hand, together = (
            float(_similarities(workspace, state, subject, keep[None], job)[0]) for keep in (~masked, shown)
        )
    exact = "" if count in counts else ", interpolated between steps of the curve"
    areas = (np.trapezoid(values, shares[both]) for values in (curve[both], chance))
    area, of_chance = (f"{value:z.3f}" for value in areas)
    note = (
        f"similarity now {now:z.3f}{exact}; of the whole picture {whole:z.3f}, of nothing but the fill {bare:z.3f}. Area under"
        f" the curve {area}, of random orders {of_chance} at the same {len(both)} points"
        f" ({'lower' if deletion else 'higher'} is better)."
    )
    if np.ptp(heat) == 0:
        note += " The map is flat, so its order is random too."
    image = enlarged(subject.image)
    point, random = (count / heat.size, now, together), (shares[both], chance)
    panels = {
        "picture": _picture(workspace, clip, state, subject, heat, shown, masked, count),
        "map": map_panel(state, spelled(state.method), heat, image, drawn_truth(subject.named, image)),
        "curve": _chart(workspace, state, (shares, curve), random, point, note),
    }
    numbers = pd.DataFrame({"patches": counts, "share": shares, "similarity": curve})
    numbers = numbers.merge(pd.DataFrame({"patches": counts[both], "random": chance}), how="left")
    return Drawn(
        panels,
        numbers,
        sentences={"masked": _about_masked(masked, whole, by_hand, together, state)},
        choices={"method": workspace.methods(state)},
        legend=legend(state.colours, LEGEND),
    )


def _similarities(
    workspace: Workspace, state: State, subject: Subject, keep: np.ndarray, job: Job | None
) -> np.ndarray:
    """Cosines (versions,) of the prompt with the picture where only the patches ``keep`` (versions, rows, cols), of bool,
    are there and the state's fill is elsewhere."""
    clip = workspace.clip(state, job)

    def compute(job: Job) -> np.ndarray:
        import torch

        from ...clip.perturbation import filled, scores_of_images

        pixels, kept = clip.pixels([subject.source]), torch.from_numpy(keep)[None].to(clip.device)
        given = pixels, prompt_ids(clip, subject.prompt), kept, filled(clip, pixels, state.fill)
        with watched(clip, job):
            return scores_of_images(clip, *given, batch_size=state.batch_size)[0].numpy()

    what = keep.shape, hashlib.sha256(keep.tobytes()).hexdigest()
    return workspace.cached(
        ("perturbed", workspace.model_key(state), subject.key, state.fill, subject.prompt, *what), compute, job
    )


def _picture(workspace, clip, state, subject, heat, keep, masked, count) -> Panel:
    """The picture as the model gets it, each patch a spot. keep, masked : (row, col) of bool."""
    import torch

    from ...clip import tower
    from ...clip.perturbation import filled, to_pixels

    def colours() -> np.ndarray:
        pixels = clip.pixels([subject.source])
        return clip.colours(torch.cat([pixels, filled(clip, pixels, state.fill)]))

    image, fill = workspace.kept(("colours", workspace.model_key(state), subject.key, state.fill), colours)
    described = tower(clip, "image")
    inside = to_pixels(torch.from_numpy(keep)[None], described, image.shape[:2])[0].numpy()
    (rows, cols), size = keep.shape, image.shape[:2]
    height, width = (pixels / of / side for pixels, of, side in zip(described.pixels, keep.shape, size, strict=True))
    spots = []
    for row, col in np.ndindex(rows, cols):
        by_hand = "masked by hand" if masked[row, col] else "not masked"
        label = f"row {row + 1}, column {col + 1}: heat {heat[row, col]:.3g}, {by_hand}"
        spots.append(Spot(col * width, row * height, width, height, label, bool(masked[row, col])))
    part = f"{count} of {keep.size} patches ({count / keep.size:.0%}), hottest first"
    done = f"{part}, are filled" if state.perturbation == "deletion" else f"only {part}, are there"
    extra = f"; {masked.sum()} masked by hand" if masked.any() else ""
    note = f"{done}{extra}. The fill is {FILLED_WITH[state.fill]}. Press a patch to mask it."
    alt, seen = f"the picture as the model gets it, {done}{extra}", enlarged(np.where(inside[..., None], image, fill))
    return Panel("what the model gets", png(seen), note, alt, tuple(spots))


def _chart(workspace, state, curve, chance, point, note) -> Panel:
    """The similarity against the share of patches, drawn once for each pair of curves; where we are is put on top.

    curve, chance : shares and similarities. point : the share, the similarity, and that with the patches masked by hand, or
    None for none."""
    share, now, together = point
    values = np.concatenate([curve[1], chance[1], [] if together is None else [together]])
    low, high = np.floor(values.min() * 10) / 10 - 0.03, np.ceil(values.max() * 10) / 10 + 0.03  # changes seldom
    key = ("chart", state.method, state.perturbation, low, high, together is None)
    key += tuple(array.tobytes() for array in (*curve, *chance))

    def drawn() -> tuple[np.ndarray, tuple]:
        named = {f"{RANDOM_ORDERS} random orders, mean": chance, spelled(state.method): curve}
        marks = {} if together is None else {"now, with those by hand": ("s", "white")}
        verb = "filled" if state.perturbation == "deletion" else "there"
        labels = f"share of patches {verb}, hottest first", "cosine similarity"
        figure = share_curves(named, marks | {"now": ("o", VERMILION)}, *labels, (low, high))
        return figure_pixels(figure, DPI, (0, low), (1, high))

    lines, (left, top, width, height) = workspace.kept(key, drawn)
    page = Image.fromarray(lines)
    mark = ImageDraw.Draw(page)
    x = left + width * share
    for value, shape, radius, colour in ((together, mark.rectangle, 15, "white"), (now, mark.ellipse, 11, VERMILION)):
        if value is not None:
            y = top + height * (high - value) / (high - low)
            shape([x - radius, y - radius, x + radius, y + radius], colour, "black", 3)
    title = f"similarity as the hottest patches {'go' if state.perturbation == 'deletion' else 'come'}"
    alt = f"{title}: {now:z.3f} at a share of {share:.2f}" + ("" if together is None else f", masked {together:z.3f}")
    return Panel(title, png(np.asarray(page)), note, alt)


def _about_masked(masked, whole, by_hand, together, state: State) -> str:
    if by_hand is None:
        return "No patch is masked by hand: press patches of the picture to see what the model loses without them."
    many = f"{masked.sum()} patch{'es' if masked.sum() > 1 else ''} masked by hand"
    return (
        f"{many}: similarity {by_hand:z.3f} without {'them' if masked.sum() > 1 else 'it'}, {by_hand - whole:+z.3f} from the"
        f" whole picture's {whole:z.3f}; {together:z.3f} with the {state.perturbation} as well."
    )
