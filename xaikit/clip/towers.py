"""Where the blocks, attention layers and summary token of a tower are, for every family open_clip has."""

from collections.abc import Callable
from dataclasses import dataclass

from open_clip.timm_model import TimmModel
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import Tensor, nn

from .model import Clip


@dataclass(frozen=True)
class Tower:
    """One encoder of a CLIP.

    blocks, attentions: the transformer blocks in order and the attention layer of each. pool: the attention
    layer that pools the patch tokens into the embedding (SigLIP, CoCa), or None. grid: rows and columns of patches, None for text;
    pixels: height and width of the part of the input that they cover (a remainder smaller than a patch is never seen).
    summary: from the tokens of a batch to the row (n,) whose output becomes the embedding; None where no
    single row does, as in towers that average their patches.
    """

    blocks: list[nn.Module]
    attentions: list[nn.Module]
    pool: nn.Module | None
    grid: tuple[int, int] | None
    pixels: tuple[int, int] | None
    summary: Callable[[Tensor], Tensor] | None

    @property
    def native(self) -> bool:
        """Whether all attention layers are the original CLIP's, which alone the released codes know."""
        return self.pool is None and all(isinstance(layer, nn.MultiheadAttention) for layer in self.attentions)


def _first_row(inputs: Tensor) -> Tensor:
    return inputs.new_zeros(len(inputs)).long()


def tower(clip: Clip, side: str) -> Tower:
    """Describe the "image" or the "text" tower. Raises ValueError for another side, or for a tower without
    transformer blocks (ResNet, ConvNeXt) or from outside open_clip and timm (Hugging Face text towers).

    Examples
    --------
    >>> xk.clip.tower(clip, "image").grid
    (8, 8)
    """
    if side == "image":
        return _image_tower(clip)
    if side == "text":
        return _text_tower(clip)
    raise ValueError(f"of={side!r}: an explanation is of the 'image' or of the 'text'")


def _image_tower(clip: Clip) -> Tower:
    visual = clip.model.visual
    trunk = getattr(visual, "trunk", None)
    if isinstance(visual, VisionTransformer):
        blocks, grid, patch = visual.transformer.resblocks, visual.grid_size, visual.patch_size
        pool = None if visual.attn_pool is None else (visual.attn_pool_contrastive or visual.attn_pool).attn
        if visual.attn_pool is not None and (
            getattr(visual, "attn_pool_type", "") == "cascade" or visual.pool_type == "avg"
        ):
            raise ValueError(
                f"the image tower of {clip.name} averages or cascades its pooling: no single query leads to its embedding"
            )
        by_token = visual.pool_type == "tok"
    elif isinstance(visual, TimmModel) and hasattr(trunk, "blocks") and hasattr(trunk, "patch_embed"):
        blocks, grid, patch = trunk.blocks, trunk.patch_embed.grid_size, trunk.patch_embed.patch_size
        pool = getattr(trunk, "attn_pool", None)
        by_token = getattr(trunk, "global_pool", "") == "token"
    else:
        raise ValueError(
            f"the image tower of {clip.name} ({type(visual).__name__}) has no transformer blocks to record"
        )
    summary = _first_row if by_token or pool is not None else None
    covered = grid[0] * patch[0], grid[1] * patch[1]
    return Tower([*blocks], [block.attn for block in blocks], pool, tuple(grid), covered, summary)


def _text_tower(clip: Clip) -> Tower:
    text = getattr(clip.model, "text", clip.model)
    if text is not clip.model and not isinstance(text, TextTransformer):
        raise ValueError(
            f"the text tower of {clip.name} ({type(text).__name__}) isn't one of open_clip's own, which alone can be recorded"
        )
    blocks = list(text.transformer.resblocks)
    pool_type = getattr(text, "pool_type", getattr(text, "text_pool_type", None))

    def summary(tokens: Tensor) -> Tensor:
        if getattr(text, "cls_emb", None) is not None:
            return tokens.new_full((len(tokens),), tokens.shape[1])  # CoCa appends its summary token
        if pool_type == "last":
            return tokens.new_full((len(tokens),), tokens.shape[1] - 1)
        return _first_row(tokens) if pool_type == "first" else clip.text_end(tokens)

    return Tower(blocks, [block.attn for block in blocks], None, None, None, summary)


def shares_space(clip: Clip) -> bool:
    """Whether the model's own projections take single patches and words to the space in which images and texts meet: not
    where the image tower pools its patches by attention, or where a tower can't be described."""
    try:
        return tower(clip, "image").pool is None and tower(clip, "text") is not None
    except ValueError:
        return False
