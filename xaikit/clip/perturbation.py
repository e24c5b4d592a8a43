"""Scores of many perturbed versions of each input, in bounded batches: what methods and metrics share."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur
from tqdm import tqdm

from ..files.checks import FILLS
from .model import Clip
from .towers import Tower, tower

WORD_FILLS = ("padding", "removed")
# What is kept: (n or 1, versions, ...), or a function of the sample and the version (b,) each that gives (b, ...).
Keep = Tensor | Callable[[Tensor, Tensor], Tensor]
# What the unit embeddings (b, width), in float32, of versions of the samples (b,) are worth: (b, ...).
Score = Callable[[Tensor, Tensor], Tensor]


def filled(clip: Clip, pixels: Tensor, fill: str, seed: int = 0) -> Tensor:
    """What stands in for removed patches, (n, 3, H, W): "zero" of the normalised space (the mean colour of the
    training images), each image's own "mean" colour, "black", the image under a strong "blur", or a "random" colour
    a patch (drawn with ``seed``)."""
    mean, std = (torch.tensor(each).view(3, 1, 1).to(pixels) for each in clip.normalisation)
    if fill == "zero":
        return torch.zeros_like(pixels)
    if fill == "mean":
        return pixels.mean((2, 3), keepdim=True).expand_as(pixels)
    if fill == "black":
        return (-mean / std).expand_as(pixels)
    if fill == "blur":
        sigma = min(pixels.shape[2:]) / 8  # its kernel reaches over less than the shorter side
        return gaussian_blur(pixels, 2 * int(2 * sigma) + 1, sigma)
    if fill == "random":
        described = tower(clip, "image")
        colour = torch.rand(3, *described.grid, generator=torch.Generator().manual_seed(int(seed))).to(pixels)
        return ((to_pixels(colour, described, pixels.shape[2:]) - mean) / std).expand_as(pixels)
    raise ValueError(f"fill={fill!r}: choose from {', '.join(FILLS)}")


def check_fill(fill: str | None, of: str) -> str:
    """The fill, or for None the side's first one. Raises ValueError for one that the side doesn't have."""
    known = FILLS if of == "image" else WORD_FILLS
    if fill is not None and fill not in known:
        raise ValueError(f"fill={fill!r}: for the {of} choose from {', '.join(known)}")
    return fill or known[0]


def to_pixels(values: Tensor, described: Tower, size: torch.Size) -> Tensor:
    """Values of patches (n, rows, cols) for each pixel (n, H, W); 0 for pixels that no patch covers."""
    rows, cols = described.grid
    if tuple(values.shape[1:]) != (rows, cols):
        raise ValueError(f"{tuple(values.shape[1:])} rows and columns: the model has {rows} x {cols} patches")
    height, width = described.pixels
    large = values.repeat_interleave(height // rows, 1).repeat_interleave(width // cols, 2)
    return F.pad(large, (0, size[1] - width, 0, size[0] - height))


def to_patches(values: Tensor, described: Tower) -> Tensor:
    """The sum over each patch (..., rows, cols) of values of pixels (..., H, W)."""
    (rows, cols), (height, width) = described.grid, described.pixels
    covered = values[..., :height, :width]
    return covered.unflatten(-1, (cols, -1)).unflatten(-3, (rows, -1)).sum((-3, -1))


def perturbed_images(clip: Clip, pixels: Tensor, keep: Tensor, substitute: Tensor | None = None) -> Tensor:
    """The images (n, 3, H, W) where ``keep`` is 1, ``substitute`` (n or 1, 3, H, W) where it is 0, and between them
    a mixture.

    keep: (n, rows, cols) on the patch grid or (n, H, W); bool or from 0 to 1. substitute: None for 0 in the
    normalised space, the mean colour of the training images.
    """
    if keep.shape[1:] != pixels.shape[2:]:
        keep = to_pixels(keep, tower(clip, "image"), pixels.shape[2:])
    keep = keep[:, None]
    if substitute is None:
        return pixels * keep.to(pixels.dtype)
    if keep.dtype == torch.bool:
        return torch.where(keep, pixels, substitute)
    return torch.lerp(substitute.to(pixels), pixels, keep.to(pixels.dtype))


def perturbed_texts(clip: Clip, tokens: Tensor, keep: Tensor, substitute: str = "padding") -> Tensor:
    """Token ids (n, context) of the prompts without the own tokens that ``keep`` (n, longest prompt) leaves out.

    substitute, one of ``WORD_FILLS``: "padding" puts the tokenizer's padding in their place (0 for CLIP's own, as M2IB's released
    evaluation does); "removed" closes the gap, so that the rest is what one would have typed without them.
    """
    content = clip.content(tokens)
    place = (content.cumsum(1) - 1).clamp(0, keep.shape[1] - 1)
    dropped = content & ~keep.to(tokens.device).bool().gather(1, place)
    padded = tokens.masked_fill(dropped, padding(clip))
    if substitute == "padding":
        return padded
    closed = padded.gather(1, dropped.int().argsort(dim=1, stable=True))
    position = torch.arange(tokens.shape[1], device=tokens.device)
    return closed.masked_fill(position >= tokens.shape[1] - dropped.sum(1, keepdim=True), padding(clip))


def padding(clip: Clip) -> int:
    """The id with which this model's tokenizer fills up a context."""
    inner = getattr(clip.tokenizer, "tokenizer", None)
    return getattr(inner, "pad_token_id", None) or 0


@torch.no_grad()
def scores_of_images(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    keep: Keep,
    substitute: Tensor | None = None,
    versions: int | None = None,
    batch_size: int | None = None,
    progress: str = "",
    score: Score | None = None,
) -> Tensor:
    """Cosines (n, versions), float32 on the CPU, of perturbed versions of each image with the image's own text.

    pixels (n, 3, H, W), tokens (n, context). keep, substitute: of ``perturbed_images``; keep for all versions as a
    tensor (n or 1, versions, ...), or as a function of sample and version, called for one batch at a time, with
    ``versions`` their number. Versions come in order, each for all samples before the next. batch_size: images
    encoded at once, None for a sensible number. progress: name of the progress bar, empty for none. score: another
    worth of an embedding than that cosine; what it gives makes up the last dimensions.
    """
    score = score or cosine_with(encoded(clip.embed_text, tokens.to(pixels.device), batch_size))

    def encode(sample: Tensor, kept: Tensor) -> Tensor:
        fill = substitute if substitute is None or len(substitute) == 1 else substitute[sample]
        return clip.encode_image(perturbed_images(clip, pixels[sample], kept, fill))

    return scores_in_batches(encode, score, pixels, keep, versions, batch_size, progress)


@torch.no_grad()
def scores_of_texts(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    keep: Keep,
    substitute: str = "padding",
    versions: int | None = None,
    batch_size: int | None = None,
    progress: str = "",
    score: Score | None = None,
) -> Tensor:
    """Cosines (n, versions) of perturbed versions of each text with its own image; as ``scores_of_images``, with
    keep (n or 1, versions, longest prompt) over the prompt's own tokens and substitute as in ``perturbed_texts``."""
    score = score or cosine_with(encoded(clip.encode_image, pixels, batch_size))
    tokens = tokens.to(pixels.device)

    def encode(sample: Tensor, kept: Tensor) -> Tensor:
        return clip.embed_text(perturbed_texts(clip, tokens[sample], kept, substitute))

    return scores_in_batches(encode, score, tokens, keep, versions, batch_size, progress)


def at_once(device: torch.device) -> int:
    """How many perturbed inputs to encode at once: on a CPU small batches stay in its cache and are the fastest."""
    return 64 if device.type == "cpu" else 256


@torch.no_grad()
def encoded(encode: Callable[[Tensor], Tensor], inputs: Tensor, batch_size: int | None = None) -> Tensor:
    """Embeddings of all inputs, computed batch by batch, in float32: sums over a half precision embedding are too
    coarse for small differences."""
    return torch.cat([encode(part).float() for part in inputs.split(batch_size or at_once(inputs.device))])


def cosine_with(other: Tensor) -> Score:
    """The score that is the cosine with each sample's row of ``other`` (n, width)."""
    return lambda embedding, sample: (embedding * other[sample]).sum(-1)


@torch.no_grad()
def scores_in_batches(
    encode: Callable[[Tensor, Tensor], Tensor],
    score: Score,
    inputs: Tensor,
    keep: Keep,
    versions: int | None = None,
    batch_size: int | None = None,
    progress: str = "",
) -> Tensor:
    """What ``score`` gives, (n, versions, ...) on the CPU, for versions of n ``inputs`` that ``encode`` makes and embeds
    from the sample (b,) and what is kept of it; the rest as in ``scores_of_images``."""
    given = isinstance(keep, Tensor)
    versions = keep.shape[1] if given else versions
    n, total, device = len(inputs), len(inputs) * versions, inputs.device
    if not total:
        return torch.empty(n, versions)
    size = batch_size or at_once(device)
    scores = []
    for start in tqdm(range(0, total, size), disable=not progress, desc=progress):
        index = torch.arange(start, min(start + size, total), device=device)
        sample, version = index % n, index // n
        kept = keep[sample if len(keep) > 1 else 0 * sample, version] if given else keep(sample, version)
        scores.append(score(encode(sample, kept).float(), sample).cpu())
    return torch.cat(scores).unflatten(0, (versions, n)).transpose(0, 1)
