"""Compare: one picture and prompt, explained by up to four methods side by side. Words: how much each word of the prompt
matters, and where in the picture the words that are pressed lie."""

import numpy as np
import pandas as pd

from ...files.names import spelled
from ..jobs import Job
from ..panels import LEGEND, Drawn, Panel, drawn_truth, legend, long, map_panel, shaded_words, with_similarity
from ..pixels import TRUE_EDGE, enlarged, png, relative, with_edge
from ..sources import Subject, named_pixels
from ..state import State
from ..workspace import Workspace

WORDS_BY = ("grad_eclip", "chefer")  # stand in for a method of the image that doesn't explain words


def compare(workspace: Workspace, state: State, job: Job | None = None) -> Drawn:
    """The picture, a panel ``map 0``, ``map 1``, ... for each method, and for each patch its heat (``numbers``).

    The IoU of a map's mask is with all pixels of the objects that the prompt names.
    """
    subject, names = workspace.subject(state, job), list(state.methods)
    steps = (job or Job()).each(names, lambda name: f"explaining by {name}")
    maps = {name: workspace.heat(state, name, job) for name in steps}
    image = enlarged(subject.image)
    truth = drawn_truth(subject.named, image)
    outlined, alt = png(with_edge(image, truth, TRUE_EDGE)), f"the picture that is explained: {subject.prompt}"
    picture = Panel(state.image or f"scene {state.sample}", outlined, _about_truth(subject), alt)
    panels = {"image": with_similarity(picture, workspace.similarity(state, job))}
    panels |= {
        f"map {place}": map_panel(state, spelled(name), maps[name], image, truth) for place, name in enumerate(names)
    }
    return Drawn(
        panels,
        long(("row", "col"), **maps),
        sentences={"prompt": f"prompt: {subject.prompt}"},
        choices={"methods": workspace.methods(state)},
        legend=legend(state.colours, LEGEND),
    )


def _about_truth(subject: Subject) -> str:
    """What is outlined and why, or why nothing is. Of a typed prompt only phrases with a shape's name count."""
    if subject.scene is None or not subject.scene.sizes["object"]:
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


def words(workspace: Workspace, state: State, job: Job | None = None) -> Drawn:
    """Words coloured by their heat; the map of the whole prompt, and beside it that of the pressed words as a prompt of
    their own, in their order. ``numbers`` has both, the latter only where words are pressed, and below them the words' heat."""
    subject, steps = workspace.subject(state, job), job or Job()
    tokens = workspace.tokens(state, job)
    beyond = [place for place in state.words if not 0 <= place < len(tokens)]
    if beyond:
        raise ValueError(f"words={list(state.words)}: the prompt has the words 0 to {len(tokens) - 1}")
    able = workspace.methods(state, "text")
    speaker = next((name for name in (state.method, *WORDS_BY) if name in able), able[0] if able else state.method)
    steps.at(f"explaining the words by {speaker}", 0, 3)
    word_heat = workspace.heat(state, speaker, job, of="text")
    steps.at(f"explaining the picture by {state.method}", 1, 3)
    maps = {"heat": workspace.heat(state, state.method, job)}
    image = enlarged(subject.image)
    panel = map_panel(state, "the whole prompt", maps["heat"], image, drawn_truth(subject.named, image))
    panels = {"whole": with_similarity(panel, workspace.similarity(state, job))}
    pressed = tuple(sorted({*state.words}))
    if pressed:
        steps.at("explaining the pressed words", 2, 3)
        text = " ".join(tokens[place] for place in pressed)
        maps["heat of the pressed words"] = heat = workspace.heat(state, state.method, job, words=pressed)
        named = None if subject.scene is None else named_pixels(subject.scene, text)
        panel = map_panel(state, f"only: {text}", heat, image, drawn_truth(named, image))
        panels["pressed"] = with_similarity(panel, workspace.similarity(state, job, pressed))
    else:
        panels["pressed"] = Panel("only the pressed words", png(image), "press one or several words above")
    of_words = pd.DataFrame({"word": tokens, "heat of the word": word_heat})
    labels = [f"{text}: heat {heat:.3g}" for text, heat in zip(tokens, word_heat, strict=True)]
    largest = ", ".join(f"{tokens[place]} {word_heat[place]:.3g}" for place in np.argsort(-word_heat)[:3])
    without = "" if speaker == state.method else f"{state.method} explains pictures only. "
    return Drawn(
        panels,
        pd.concat([long(("row", "col"), **maps).astype({"row": "Int64", "col": "Int64"}), of_words]),
        shaded_words(tokens, relative(word_heat), state.colours, pressed, labels),
        sentences={
            "prompt": f"prompt: {subject.prompt}",
            "words": f"{without}Heat of the words by {speaker}, largest first: {largest}.",
        },
        choices={"method": workspace.methods(state)},
        legend=legend(state.colours, f"words and maps: {LEGEND}"),
    )
