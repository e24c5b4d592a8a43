"""Words: how much each word of the prompt matters, and where in the picture the words that are pressed lie."""

import numpy as np
import pandas as pd

from ..jobs import Job
from ..panels import LEGEND, Drawn, Panel, drawn_truth, map_panel, shaded_words, with_similarity
from ..pixels import colour_bar, enlarged, png, relative
from ..state import State
from ..subject import named_pixels
from ..workspace import Workspace

WORDS_BY = ("grad_eclip", "chefer")  # stand in for a method of the image that doesn't explain words


def draw(workspace: Workspace, state: State, job: Job | None = None) -> Drawn:
    """Words coloured by their heat; the map of the whole prompt, and beside it that of the pressed words as a prompt of
    their own, in their order. ``numbers`` has both, the latter only where words are pressed, and below them the words' heat."""
    subject = workspace.subject(state, job)
    words = workspace.tokens(state, job)
    beyond = [place for place in state.words if not 0 <= place < len(words)]
    if beyond:
        raise ValueError(f"words={list(state.words)}: the prompt has the words 0 to {len(words) - 1}")
    speaker = _speaker(workspace, state)
    if job:
        job.at(f"explaining the words by {speaker}", 0, 3)
    word_heat = workspace.heat(state, speaker, job, of="text")
    if job:
        job.at(f"explaining the picture by {state.method}", 1, 3)
    whole = workspace.heat(state, state.method, job)
    image = enlarged(subject.image)
    panel = map_panel(state, "the whole prompt", whole, image, drawn_truth(subject.named, image))
    panels = {"whole": with_similarity(panel, workspace.similarity(state, job))}
    columns = {"heat": whole.ravel()}
    pressed = tuple(sorted({*state.words}))
    if pressed:
        if job:
            job.at("explaining the pressed words", 2, 3)
        text = " ".join(words[place] for place in pressed)
        heat = workspace.heat(state, state.method, job, words=pressed)
        named = None if subject.scene is None else named_pixels(subject.scene, text)
        panel = map_panel(state, f"only: {text}", heat, image, drawn_truth(named, image))
        panels["pressed"] = with_similarity(panel, workspace.similarity(state, job, pressed))
        columns["heat of the pressed words"] = heat.ravel()
    else:
        panels["pressed"] = Panel("only the pressed words", png(image), "press one or several words above")
    rows, cols = np.indices(whole.shape).reshape(2, -1)
    of_words = pd.DataFrame({"word": words, "heat of the word": word_heat})
    of_patches = pd.DataFrame({"row": rows, "col": cols} | columns).astype({"row": "Int64", "col": "Int64"})
    numbers = pd.concat([of_patches, of_words])
    labels = [f"{text}: heat {heat:.3g}" for text, heat in zip(words, word_heat, strict=True)]
    buttons = shaded_words(words, relative(word_heat), state.colours, pressed, labels)
    said = ", ".join(f"{words[place]} {word_heat[place]:.3g}" for place in np.argsort(-word_heat)[:3])
    without = "" if speaker == state.method else f"{state.method} explains pictures only. "
    sentences = {
        "prompt": f"prompt: {subject.prompt}",
        "words": f"{without}Heat of the words by {speaker}, largest first: {said}.",
    }
    choices = {"method": workspace.methods(state)}
    legend = (colour_bar(state.colours), f"words and maps: {LEGEND}")
    return Drawn(panels, numbers, buttons, sentences, choices, legend)


def _speaker(workspace: Workspace, state: State) -> str:
    """The state's method, or one that explains words where it doesn't."""
    able = workspace.methods(state, "text")
    return next((name for name in (state.method, *WORDS_BY) if name in able), able[0] if able else state.method)
