"""What a multimodal LLM answers to a question about a picture, with a map of each token by every method, computed once."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..jobs import Job
from ..state import State
from ..subject import Subject
from ..workspace import Workspace

METHODS = {(False, False): "lens", (True, False): "msea", (False, True): "arc", (True, True): "msea+arc"}  # MSEA, ARC


@dataclass(frozen=True)
class Answer:
    """An answer of T tokens and its C context tokens (the question's, then its own), explained by all of ``METHODS``.

    spelled, context : the tokens' texts, with a blank before those that start a word. maps : by method (T, rows, cols), at
    least 0. region : top, left, bottom and right of what they cover, as shares of the picture's height and width.
    log_probability : (T,), in nat. weights : by method (T, C), how much of each earlier token's map is subtracted as a share
    of all, 0 for the token itself, those after it, and those of its spelling.
    """

    text: str
    ended: bool
    spelled: tuple[str, ...]
    context: tuple[str, ...]
    maps: dict[str, np.ndarray]
    region: tuple[float, float, float, float]
    log_probability: np.ndarray
    weights: dict[str, np.ndarray]

    @property
    def texts(self) -> list[str]:
        """The answer's tokens as they can be read."""
        return [readable(text) for text in self.spelled]

    @property
    def first(self) -> int:
        """The place of the answer's first token in the context."""
        return len(self.context) - len(self.spelled)


def answer(workspace: Workspace, state: State, job: Job | None = None) -> Answer:
    """What the state's multimodal LLM says to its question about its picture, explained by all of ``METHODS``.

    All of them come from the same passes, so that switching between them needs nothing new. Raises as ``explain_all_tokens``
    and ``load_mllm``, with the prompt called a question.
    """
    source = workspace.uncropped(state)
    key = ("answer", state.multimodal_model, state.device, source.key, state.question)
    return workspace.cached(key, lambda job: _explained(workspace, state, source, job), job)


def _explained(workspace: Workspace, state: State, subject: Subject, job: Job) -> Answer:
    mllm = workspace.mllm(state, job)
    from ...mllm import explain_all_tokens

    job.at("answering, and explaining each word of the answer")
    with job.watching(*mllm.model.model.language_model.layers):
        try:
            found = explain_all_tokens(mllm, [subject.source], state.question, list(METHODS.values()))
        except ValueError as error:
            raise ValueError(_about_question(str(error))) from error
    one = found.isel(sample=0)
    count = int((one.answer_id.values >= 0).sum())
    texts = one.context_text.values
    context = texts[: np.flatnonzero(texts != "").max(initial=-1) + 1]  # up to the last that isn't padding
    weights = {name: _weights(one, name, count, len(context)) for name in METHODS.values()}
    return Answer(
        text=str(one.answer.item()),
        ended=bool(one.ended),
        spelled=tuple(map(str, one.answer_text.values[:count])),
        context=tuple(map(str, context)),
        maps={name: one.token_heat.sel(explainer=name).values[:count] for name in METHODS.values()},
        region=tuple(one.region.values.tolist()),
        log_probability=one.log_probability.values[0, :count],
        weights=weights,
    )


def _weights(one: xr.Dataset, method: str, count: int, contexts: int) -> np.ndarray:
    """``Answer.weights`` of a method; those of relevance for the logit lens, which subtracts nothing."""
    import torch

    from ...mllm import PRESETS
    from ...mllm.tam import context_weights

    text = one.context_text.values[:contexts]
    own = np.arange(contexts - count, contexts)  # the answer's tokens are the last
    before = np.arange(contexts) < own[:, None]
    allowed = before & (text[own][:, None] != text)
    overlap = np.nan_to_num(one.rank_overlap.sel(explainer=method).values[:count, :contexts])
    relevance, overlap, allowed = (
        torch.from_numpy(values) for values in (one.relevance.values[:count, :contexts], overlap, allowed)
    )
    found = context_weights(PRESETS[method].weighting or "relevance", relevance, overlap, allowed).numpy()
    total = found.sum(1, keepdims=True)
    return np.divide(found, total, out=np.zeros_like(found), where=total > 0)


def _about_question(text: str) -> str:
    """An error of the library in the words of this view: one picture, and a question instead of a prompt."""
    text = text.removeprefix("no sample can be explained; the first one: ").removeprefix("sample 0: ")
    # there is no control of the scale
    text = text.removeprefix("scale=1.0: ").replace("a smaller scale or a shorter", "a shorter")
    if text.startswith("the prompt ("):  # what follows is the user's own text, and stays
        return text.replace("the prompt", "the question", 1)
    return text.replace("prompt", "question")


def readable(text: str) -> str:
    """A token without the blank that starts a word; blanks and line breaks alone are spelled out."""
    return text.strip() or repr(text)[1:-1].replace(" ", "\u2423")
