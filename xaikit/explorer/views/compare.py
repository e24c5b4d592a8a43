"""Compare: one picture and prompt, explained by up to four methods side by side."""

import numpy as np
import pandas as pd

from ..jobs import Job
from ..panels import LEGEND, Drawn, Panel, drawn_truth, map_panel, with_similarity
from ..pixels import TRUE_EDGE, colour_bar, enlarged, png, with_edge
from ..state import State
from ..subject import Subject
from ..workspace import Workspace


def draw(workspace: Workspace, state: State, job: Job | None = None) -> Drawn:
    """The picture, a panel ``map 0``, ``map 1``, ... for each method, and for each patch its heat (``numbers``).

    The IoU of a map's mask is with all pixels of the objects that the prompt names.
    """
    subject = workspace.subject(state, job)
    names = list(state.methods)
    steps = names if job is None else job.each(names, lambda name: f"explaining by {name}")
    maps = {name: workspace.heat(state, name, job) for name in steps}
    image = enlarged(subject.image)
    truth = drawn_truth(subject.named, image)
    picture = _picture(state, subject, image, truth)
    panels = {"image": with_similarity(picture, workspace.similarity(state, job))}
    for index, (name, heat) in enumerate(maps.items()):
        panels[f"map {index}"] = map_panel(state, name, heat, image, truth)
    rows, cols = np.indices(next(iter(maps.values())).shape).reshape(2, -1)
    numbers = pd.DataFrame({"row": rows, "col": cols} | {name: heat.ravel() for name, heat in maps.items()})
    return Drawn(
        panels,
        numbers,
        sentences={"prompt": f"prompt: {subject.prompt}"},
        choices={"methods": workspace.methods(state)},
        legend=(colour_bar(state.colours), LEGEND),
    )


def _picture(state: State, subject: Subject, image: np.ndarray, truth: np.ndarray | None) -> Panel:
    title = state.image or f"scene {state.sample}"
    outlined = png(with_edge(image, truth, TRUE_EDGE))
    return Panel(title, outlined, _about_truth(subject), f"the picture that is explained: {subject.prompt}")


def _about_truth(subject: Subject) -> str:
    """What is outlined and why, or why nothing is. Of a typed prompt only phrases with a shape's name count."""
    if subject.scene is None:
        return "no truth is known of this picture"
    if subject.scene.object_mask.shape[1:] != subject.image.shape[:2]:
        return "no truth is known of the cropped scene"
    if subject.named is None:
        example = next((name for name in subject.scene.object_name.values if name), "red ring")
        return f"no object is outlined: the prompt has no phrase such as “{example}” for an object that is there"
    if subject.captioned:
        return "named objects outlined in blue"
    return (
        "outlined in blue: the objects for which the prompt has a phrase with their shape; “no” and “not” aren't read"
    )
