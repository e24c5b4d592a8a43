"""Compare: one picture and prompt, explained by up to four methods side by side."""

import numpy as np
import pandas as pd

from ..drawing import TRUE_EDGE, colour_bar, coloured, enlarged, laid_over, png, relative, upsampled, with_edge
from ..drawn import Drawn, Panel
from ..jobs import Job
from ..state import State
from ..subject import Subject
from ..workspace import Workspace

LEGEND = (
    "heat as a share of each map's largest, below 0 as 0; white: the edge of the mask; blue: that of the named objects"
)


def draw(workspace: Workspace, state: State, job: Job | None = None) -> Drawn:
    """The picture, a panel ``map 0``, ``map 1``, ... for each method, and for each patch its heat (``numbers``).

    A mask is what has at least ``threshold`` of the map's largest heat, on the upsampled map as it is drawn; its IoU is with
    all pixels of the objects that the prompt names.
    """
    subject = workspace.subject(state, job)
    names = list(state.methods)
    steps = names if job is None else job.each(names, lambda name: f"explaining by {name}")
    maps = {name: workspace.heat(state, name, job) for name in steps}
    image = enlarged(subject.image)
    truth = None if subject.named is None else upsampled(subject.named, image.shape[:2]) > 0.5
    panels = {"image": _picture(state, subject, image, truth)}
    for index, (name, heat) in enumerate(maps.items()):
        panels[f"map {index}"] = map_panel(state, name, heat, image, truth)
    rows, cols = np.indices(next(iter(maps.values())).shape).reshape(2, -1)
    numbers = pd.DataFrame({"row": rows, "col": cols} | {name: heat.ravel() for name, heat in maps.items()})
    return Drawn(
        panels,
        numbers,
        sentences={"prompt": f"prompt: {subject.prompt}"},
        choices={"methods": workspace.methods(state), "sample": (0, workspace.scenes(state).sizes["sample"] - 1)},
        legend=(colour_bar(state.colours), LEGEND),
    )


def map_panel(state: State, title: str, heat: np.ndarray, image: np.ndarray, truth: np.ndarray | None = None) -> Panel:
    """A map (row, col) laid over an enlarged image, its mask's edge, and how the mask agrees with the truth (y, x)."""
    large = np.clip(upsampled(relative(heat), image.shape[:2], state.upsampling), 0, 1)
    inside = (large >= state.threshold) & (large > 0)
    drawn = laid_over(image, coloured(large, state.colours), state.opacity)
    peak = float(np.max(heat))
    note = f"largest heat {peak:.3g}" if peak > 0 else "no heat above 0"
    if truth is not None:
        note += f", IoU {iou(inside, truth):.2f}"
        drawn = with_edge(drawn, truth, TRUE_EDGE)
    if state.mask:
        drawn = with_edge(drawn, inside)
        note += f", mask {inside.mean():.0%} of the picture"
    row, col = np.unravel_index(int(np.argmax(heat)), heat.shape)
    where = f"hottest at row {row + 1} of {heat.shape[0]}, column {col + 1} of {heat.shape[1]}"
    return Panel(title.replace("_", " "), png(drawn), note, f"heat by {title} over the picture, {where}")


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks; 0 where both are empty."""
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 0.0


def _picture(state: State, subject: Subject, image: np.ndarray, truth: np.ndarray | None) -> Panel:
    if truth is not None:
        note = "named objects outlined in blue"
        image = with_edge(image, truth, TRUE_EDGE)
    else:
        note = (
            "no truth is known of this picture" if subject.scene is None else "the prompt names no object that is there"
        )
    title = state.image or f"scene {state.sample}"
    return Panel(title, png(image), note, f"the picture that is explained: {subject.prompt}")
