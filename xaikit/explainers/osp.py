"""Orthogonal semantic projection: explain what the text says that similar captions don't (arXiv 2606.14758)."""

import contextlib
import copy
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip.model import Clip
from ..files.checks import check_number, check_whole
from ..samples.captions import LITTLE_WORDS, object_kinds
from ..samples.worlds import WORLDS, find_world
from .registry import check_tower, find, method


@method(sides=("image",), source="Bilgic et al., Orthogonal Semantic Projection, arXiv 2606.14758")
def osp(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    *,
    of: str,
    base: str = "grad_eclip",
    options: Mapping[str, object] | None = None,
    distractors: Sequence[str] | None = None,
    atoms: int = 8,
    max_similarity: float = 1.0,
) -> Tensor:
    """The map of the method ``base`` (with its ``options``) for the text embedding's residual: without its part in the
    span of up to ``atoms`` distractors, and of length 1 again.

    Orthogonal matching pursuit picks the distractors: in turn the one most correlated with the residual, after each
    of which the residual is orthogonal to all that were picked. distractors: captions, None for every kind of object of
    the planted worlds whose words the model knows. One whose content words are all in the prompt is none for it, nor one
    whose cosine with the text is above ``max_similarity``. A text that lies in the distractors' span whole stays as it is.
    """
    found = find(base, of, dict(options or {}))
    if base == osp.__name__:
        raise ValueError(f"base={base!r}: choose the method that explains the projected text")
    check_tower(found, clip, of)
    check_whole(0, atoms=atoms)
    check_number(-1, 1, "cosine", max_similarity=max_similarity)
    captions = planted_captions(clip) if distractors is None else list(distractors)
    if isinstance(distractors, str) or not captions:
        raise ValueError(f"distractors={distractors!r}: a list of captions is needed, or None")
    projected = behind(clip, captions, atoms, max_similarity)
    return found.function(projected, pixels, tokens, of=of, **(options or {}))


@torch.no_grad()
def encoded_once(clip: Clip, captions: list[str]) -> Tensor:
    """The captions' embeddings (k, width), kept on the clip for the next pairs as long as no weight beside the image tower changes:
    they take longer than a few pairs do."""
    weights = [each for name, each in clip.model.named_parameters() if not name.startswith("visual.")]
    state = (captions, [(each.data_ptr(), each._version) for each in weights])
    if vars(clip).get("_distractors", (None,))[0] != state:
        vars(clip)["_distractors"] = state, clip.embed_text(clip.tokens(captions).to(clip.device))
    return vars(clip)["_distractors"][1]


def behind(clip: Clip, captions: list[str], atoms: int, max_similarity: float) -> Clip:
    """The same model, whose text embeddings are the residuals behind these distractors."""
    dictionary, contents = encoded_once(clip, captions), [content_words(caption) for caption in captions]

    def projected(encode: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
        text, said = encode(tokens), [content_words(prompt) for prompt in prompts(clip, tokens)]
        other = torch.tensor([[not words <= prompt for words in contents] for prompt in said]).to(text.device)
        allowed = other & (text @ dictionary.T <= max_similarity)
        return residual(text, dictionary, allowed, atoms).to(text.dtype)

    same = copy.copy(clip)
    same.encode_text, same.embed_text = partial(projected, clip.encode_text), partial(projected, clip.embed_text)
    return same


def planted_captions(clip: Clip) -> list[str]:
    """A caption for every kind of object of the planted worlds whose words the model's tokenizer knows."""
    captions: list[str] = []
    for world in WORLDS:
        kinds = list(object_kinds(find_world(world)).values())
        with contextlib.suppress(ValueError):  # a word outside the vocabulary
            clip.tokens(kinds)
            captions += kinds
    return captions


@cache
def _singular() -> dict[str, str]:
    worlds = map(find_world, WORLDS)
    names = [pair for world in worlds for pair in zip(world.plurals, world.nouns, strict=True)]
    return {many: one for several, name in names for many, one in zip(several.split(), name.split(), strict=False)}


def content_words(text: str) -> set[str]:
    """Its words but for function words, in the singular."""
    words = set(re.findall(r"\w+", text.lower())) - set(LITTLE_WORDS)
    return {_singular().get(word, word) for word in words}


def prompts(clip: Clip, tokens: Tensor) -> list[str]:
    """The text of each prompt, from its own tokens."""
    decode = getattr(clip.tokenizer, "tokenizer", clip.tokenizer).decode
    return [decode(row[keep].tolist()) for row, keep in zip(tokens.cpu(), clip.content(tokens).cpu(), strict=True)]


def residual(text: Tensor, dictionary: Tensor, allowed: Tensor, atoms: int, tolerance: float = 1e-6) -> Tensor:
    """Unit residuals (n, width) of texts (n, width) behind the atoms that orthogonal matching pursuit picks from the
    dictionary (k, width) among those allowed (n, k)."""
    text, dictionary = text.double(), dictionary.double()
    rest, basis, free = text, text.new_zeros(len(text), 0, text.shape[1]), allowed.clone()
    for _ in range(min(atoms, len(dictionary))):
        correlation = (rest @ dictionary.T).abs().masked_fill(~free, 0)
        strength, best = correlation.max(1)
        free.scatter_(1, best[:, None], False)
        atom = dictionary[best]
        for _ in range(2):  # twice: once leaves rounding errors along atoms that are nearly parallel
            atom = atom - torch.einsum("ntd,nt->nd", basis, torch.einsum("ntd,nd->nt", basis, atom))
        new = (strength > tolerance) & (atom.norm(dim=1) > tolerance)
        atom = F.normalize(atom, dim=1) * new[:, None]
        basis = torch.cat([basis, atom[:, None]], 1)
        rest = rest - (rest * atom).sum(1, keepdim=True) * atom
    left = rest.norm(dim=1, keepdim=True) > tolerance
    return F.normalize(torch.where(left, rest, text), dim=1)
