"""What eq. 1 of Semantic Resonance Maps makes of a gate: the map that the recursion repeats, in three readings.

The paper leaves open what its product of features and tokens is, and what the gate R does to the features. Each reading
maps a gate (..., patches) for one token to the next one, of the same shape:

- "none", the letter: every patch and token on its own.
- "attention": patches compete in a softmax ("cross-modal attention operation", section 2.1).
- "encoder": the gated patches run through the tower's remaining blocks again ("multiple forward passes", section 4.2).

A normalisation behind a gate that scales a patch would cancel it, so the features are normalised before.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.polynomial import chebyshev
from torch import Tensor, nn

from ..clip.model import Clip
from ..clip.perturbation import at_once
from ..clip.score import content_order, project_tokens
from ..clip.towers import tower
from ..files.checks import COUPLINGS, TEMPERATURES  # noqa: F401 (its users look for them here)

TABLE_ERROR = 1e-7


@dataclass
class Features:
    """What the recursion reads of n pairs: patches (n, patches, shared width), after the final norm and the projection;
    words (n, tokens, shared width), likewise; there (n, tokens): which tokens are a prompt's own. entering: all tokens of
    the image tower as they enter the blocks that run again, where those were asked for."""

    patches: Tensor
    words: Tensor
    there: Tensor
    entering: Tensor | None = None

    @property
    def cosine(self) -> Tensor:
        """Of each word with each patch (n, tokens, patches)."""
        return F.normalize(self.words, dim=-1) @ F.normalize(self.patches, dim=-1).mT


def features(clip: Clip, pixels: Tensor, tokens: Tensor, block: int | None = None) -> Features:
    """Run both towers once and read their last block. block: also keep what enters this block of the image tower."""
    tokens = tokens.to(pixels.device)
    entering, last = _watched(clip, "image", lambda: clip.model.encode_image(pixels), block)
    _, spoken = _watched(clip, "text", lambda: clip.embed_text(tokens), None)
    order, there = content_order(clip, tokens)
    words = project_tokens(clip, spoken.take_along_dim(order[:, :, None], 1), "text").float()
    return Features(_patches(clip, last), words, there, entering)


def _patches(clip: Clip, hidden: Tensor) -> Tensor:
    rows, cols = tower(clip, "image").grid
    return project_tokens(clip, hidden[:, hidden.shape[1] - rows * cols :], "image").float()


def _watched(clip: Clip, side: str, run: Callable, block: int | None) -> tuple[Tensor | None, Tensor]:
    """What enters a block, and what leaves the last one, with their graph where there is one."""
    blocks = tower(clip, side).blocks
    entered, left = [], []
    handles = [blocks[-1].register_forward_hook(lambda module, inputs, output: left.append(output))]
    if block is not None:
        handles.append(blocks[block].register_forward_pre_hook(lambda module, inputs: entered.append(inputs[0])))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return entered[0] if entered else None, left[0]


def uncoupled_slope(gate: Tensor, patches: Tensor, word: Tensor) -> Tensor:
    """The derivative of each entry by its own gate under coupling "none", the letter (see ``_tabulated``): of the gates' shape.

    gate (..., patches), patches (..., patches, width), word (..., width).
    """
    risen = torch.sigmoid(gate.unsqueeze(-1) * patches)
    return (patches * risen * (1 - risen) @ torch.sigmoid(word).unsqueeze(-1)).squeeze(-1) / word.shape[-1]


def competition(logits: Tensor) -> Tensor:
    """patches * softmax over patches (..., patches): a map of mean 1."""
    return logits.shape[-1] * torch.softmax(logits, -1)


def attention(gate: Tensor, cosine: Tensor, temperature: float) -> Tensor:
    """Phi = patches * softmax over patches of gate * cosine / temperature; gate and cosine (..., patches). Its mean is 1."""
    return competition(gate * cosine / temperature)


def encoder(
    gate: Tensor, entering: Tensor, word: Tensor, clip: Clip, blocks: list[nn.Module], temperature: float
) -> Tensor:
    """Phi = patches * softmax over patches of cosine / temperature, after the patches that enter the ``blocks`` are
    multiplied by their gates and have run through these again.

    gate (copies, patches), entering (copies, all tokens of the tower, width), word (copies, shared width).
    """
    others = entering.shape[1] - gate.shape[1]
    whole = torch.cat([gate.new_ones(len(gate), others), gate], 1).to(entering)
    patches = F.normalize(_again(clip, entering * whole.unsqueeze(-1), blocks), dim=-1)
    return competition((patches @ F.normalize(word, dim=-1).unsqueeze(-1)).squeeze(-1) / temperature)


def _again(clip: Clip, hidden: Tensor, blocks: list[nn.Module]) -> Tensor:
    """The patches of what enters these last blocks, after they ran once more."""
    for block in blocks:
        hidden = block(hidden)
    return _patches(clip, hidden)


def coupled(
    clip: Clip, found: Features, coupling: str, temperature: float | None, block: int, reach: tuple[float, float]
) -> Callable[[Tensor], Tensor]:
    """The map of a coupling for n pairs: gates (n, tokens, patches) to gates.

    reach: between which values the gates stay; "none" tabulates each entry's response over that range. block: of the
    image tower, from which on "encoder" runs it again; ``found.entering`` is what enters it.
    """
    if coupling == "none":
        return _tabulated(found, *reach)
    if coupling == "attention":
        cosine = found.cosine
        return lambda gate: attention(gate, cosine, temperature)
    return _rerun(clip, found, temperature, block)


def _tabulated(found: Features, low: float, high: float) -> Callable[[Tensor], Tensor]:
    """The letter: Phi_i = mean over the shared width d of sigmoid(gate_i * patch_id) * sigmoid(word_d).

    A Chebyshev series of each entry's response to its own gate: the logistic functions, by far the dearest part, are
    evaluated at a dozen gates of each patch instead of in each iteration for each token.

    The number of gates follows from where the logistic function of the largest feature stops being analytic, at
    gate * feature = i pi (Trefethen, Approximation Theory and Approximation Practice, theorem 8.2).
    """
    middle, half = (low + high) / 2, max((high - low) / 2, 1e-6)
    pole = (1j * np.pi / max(float(found.patches.detach().abs().max()), 1e-6) - middle) / half
    ellipse = max(abs(pole + sign * np.sqrt(pole**2 - 1)) for sign in (1, -1))
    degree = int(np.ceil(np.log(1 / TABLE_ERROR) / np.log(ellipse))) + 1
    nodes = chebyshev.chebpts1(degree + 1)
    heard = torch.sigmoid(found.words).mT / found.words.shape[-1]
    responses = torch.stack([(found.patches * (middle + half * node)).sigmoid_() @ heard for node in nodes.tolist()])
    to_series = torch.as_tensor(np.linalg.inv(chebyshev.chebvander(nodes, degree))).to(responses)
    series = torch.einsum("kj,jnpl->knlp", to_series, responses).contiguous()

    def phi(gate: Tensor) -> Tensor:
        twice = (gate - middle) * (2 / half)
        above, value = torch.zeros_like(gate), series[-1]
        for coefficient in series[1:-1].flip(0):  # Clenshaw's recurrence
            above, value = value, torch.addcmul(coefficient, twice, value) - above
        return series[0] + twice / 2 * value - above

    return phi


def _rerun(clip: Clip, found: Features, temperature: float, block: int) -> Callable[[Tensor], Tensor]:
    """``encoder`` with a copy of the sample for each word that is there, so many at once."""
    blocks = tower(clip, "image").blocks[block:]
    sample, _ = found.there.nonzero(as_tuple=True)
    size = at_once(found.patches.device)

    def phi(gate: Tensor) -> Tensor:
        parts = (values.split(size) for values in (gate[found.there], sample, found.words[found.there]))
        risen = [encoder(g, found.entering[s], w, clip, blocks, temperature) for g, s, w in zip(*parts, strict=True)]
        return torch.zeros_like(gate).masked_scatter(found.there.unsqueeze(-1), torch.cat(risen))

    return phi


def check_rerun(clip: Clip, found: Features, block: int) -> None:
    """Raise ValueError for a tower whose blocks, run on their own, don't give what they give within the tower."""
    again = _again(clip, found.entering[:1], tower(clip, "image").blocks[block:])
    if not F.cosine_similarity(again, found.patches[:1], dim=-1).min() > 0.9999:
        raise ValueError(
            f"coupling='encoder': the blocks of {clip.name} need more than their tokens to run again; use 'attention' or 'none'"
        )
