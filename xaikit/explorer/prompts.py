"""A typed prompt as a CLIP reads it."""


def ids(clip, prompt: str, words: tuple[int, ...] = ()):
    """Token ids (1, context) of a prompt, or of those of its own tokens at the places ``words``, without a gap.

    Raises ValueError, in one sentence, for a prompt that the model can't read or a word that it doesn't have.
    """
    import torch

    from ..clip.perturbation import perturbed_texts

    tokens = _readable(clip, prompt)
    if not words:
        return tokens
    count = int(clip.content(tokens).sum())
    if max(words) >= count or min(words) < 0:
        raise ValueError(f"words={list(words)}: the prompt has the words 0 to {count - 1}")
    keep = torch.zeros(1, count, dtype=torch.bool)
    keep[0, list(words)] = True
    return perturbed_texts(clip, tokens, keep, "removed")


def strings(clip, prompt: str) -> tuple[str, ...]:
    """A prompt's own tokens as text. Raises as ``ids``."""
    _readable(clip, prompt)
    return tuple(clip.token_strings([prompt])[0])


def _readable(clip, prompt: str):
    try:
        return clip.tokens([prompt])
    except ValueError as error:
        raise ValueError(str(error).replace("text 0", "the prompt", 1)) from error
