"""What some classes of models can do beyond what all can: other sizes of images than their processor's."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from .family import Family
from .view import ENLARGEMENTS, Medium, Video, pixels_of
from .wording import Said


class Llava(Family):
    """LLaVA with a tower of fixed size, whose position embeddings can be interpolated, or which sees tiles one by one."""

    enlargements = ENLARGEMENTS
    grows = True

    def sized(self, image: Image.Image, scale: float, enlargement: str) -> tuple[Image.Image, dict[str, Any]]:
        if scale == 1:
            return image, {}
        processor, cell = self.processor.image_processor, self.model.config.vision_config.patch_size
        native = processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size
        sides = [native[side] for side in ("height", "width")]
        height, width = (max(1, round(side * scale / cell)) * cell for side in sides)
        factors = {"height": height / sides[0], "width": width / sides[1]}
        size = {name: value for name, value in dict(processor.size).items() if value}
        options = {
            "size": {name: round(value * factors.get(name, max(factors.values()))) for name, value in size.items()}
        }
        if native is not processor.size:
            options["crop_size"] = {"height": height, "width": width}
        return image, options | {"tiles": int(scale)} if enlargement == "crops" else options

    def made(self, images: Sequence[Any], said: Said, options: dict[str, Any]) -> dict[str, Any]:
        tiles = options.get("tiles", 1)
        made = super().made(images, said, {name: value for name, value in options.items() if name != "tiles"})
        return made | {"pixel_values": cut(made["pixel_values"], tiles)}

    def run(self, vision: Mapping[str, Tensor]) -> Any:
        values = vision["pixel_values"]  # (n, tiles, 3, h, w)
        native = self.model.config.vision_config.image_size
        other = {"interpolate_pos_encoding": True} if values.shape[-2:] != (native, native) else {}
        pixels = values.flatten(0, 1).to(self.model.device, self.model.dtype)
        out = self.encoders["pixel_values"](pixels, return_dict=True, **other)
        side, cell = round(values.shape[1] ** 0.5), self.model.config.vision_config.patch_size
        rows, cols = (size // cell for size in values.shape[-2:])
        tiled = torch.stack(list(out.pooler_output)).unflatten(1, (rows, cols)).unflatten(0, (-1, side, side))
        out["pooler_output"] = list(tiled.transpose(2, 3).flatten(1, 4))  # (n, tile row, row, tile col, col) to cells
        return out


class InternVL(Family):
    """InternVL: tiles of fixed size. Enlarged, each is a larger one, or there are scale x scale times as many."""

    enlargements = ENLARGEMENTS
    grows = True

    def sized(self, image: Medium, scale: float, enlargement: str) -> tuple[Medium, dict[str, Any]]:
        if isinstance(image, Video):  # whose frames are a tile each
            return super().sized(image, scale, enlargement)
        images = self.processor.image_processor
        side, cell = images.size["height"], self._cell
        if scale == 1:
            if self.max_pixels is None:
                return image, {}
            return image, {"max_patches": max(1, min(images.max_patches, self.max_pixels // side**2 - 1))}
        rows, cols = self.native(image).grid
        tiles = (rows * cell // side) * (cols * cell // side)
        if enlargement == "crops":
            return image, {"min_patches": tiles * int(scale) ** 2, "max_patches": tiles * int(scale) ** 2}
        many = max(1, round(side * scale / cell))  # cells along a tile
        size = {"height": many * cell, "width": many * cell}
        return image, {"size": size, "min_patches": tiles, "max_patches": tiles, "image_seq_length": many**2}

    def made(self, images: Sequence[Any], said: Said, options: dict[str, Any]) -> dict[str, Any]:
        others = {name: value for name, value in options.items() if name != "image_seq_length"}
        length = options.get("image_seq_length", self.processor.image_seq_length)
        return self.wording.processed(images, said, others, image_seq_length=length)

    @property
    def _cell(self) -> int:
        """Pixels along a token."""
        config = self.model.config
        return round(config.vision_config.patch_size[0] / config.downsample_ratio)


class OneVision(Family):
    """LLaVA-OneVision: of one image several tiles, of one among several images one, of a video pooled frames."""

    def run(self, vision: Mapping[str, Tensor]) -> Any:
        pixels = vision.get("pixel_values")
        if pixels is None or pixels.shape[1] > 1:
            return super().run(vision)
        many, twice = len(pixels), len(pixels) == 1  # which it reads as images of one conversation, of at least two
        seen = {name: torch.cat([values] * (1 + twice)) for name, values in vision.items()}
        out = super().run(seen | {"batch_num_images": torch.tensor([many * (1 + twice)])})
        out.pooler_output = list(out.pooler_output)[:many]
        return out

    def owned(self, vision: Mapping[str, Tensor]) -> tuple[Tensor, int]:
        tower = self.model.config.vision_config
        patches = tower.image_size // tower.patch_size
        if "pixel_values_videos" not in vision or patches % 2 == 0:
            return super().owned(vision)
        # Halving an odd number of patches blends neighbours: a token's own are the pixels around its middle.
        pixels, side = vision["pixel_values_videos"], (patches + 1) // 2
        step, place = pixels.shape[-1] / side, torch.arange(pixels.shape[-1])
        cell = (place / step).long()
        within = place - (cell * step).ceil().long()
        cell = torch.where((within >= 0) & (within < int(step)), cell, -1)
        owner = torch.arange(pixels.shape[1])[:, None, None] * side**2 + cell[:, None] * side + cell
        owner = owner.masked_fill((cell[:, None] < 0) | (cell < 0), -1)  # (frames, rows, cols)
        return owner[None, :, None].expand(pixels.shape), pixels.shape[1] * side**2 + 1  # behind them a newline


class Patches(Family):
    """Classes that take images and frames of any size as a list of patches: the Qwen-VL and GLM-V models and VideoLLaMA 3. At scales
    other than 1 the size of scale 1 times the scale, to whole tokens and without the processor's limits."""

    grows = True

    def check_processor(self) -> None:
        super().check_processor()
        for ours, theirs in (("patch_size", "patch_size"), ("merge_size", "spatial_merge_size")):
            cut, read = (
                getattr(self.processor.image_processor, ours),
                getattr(self.model.config.vision_config, theirs, None),
            )
            if isinstance(read, int) and cut != read:
                raise ValueError(
                    f"the processor of {self.name} has {ours}={cut}, the model's vision tower {theirs}={read}: they don't belong"
                    " together"
                )

    def sized(self, image: Medium, scale: float, enlargement: str) -> tuple[Medium, dict[str, Any]]:
        video = isinstance(image, Video)
        patches = self.processor.video_processor if video else self.processor.image_processor
        shown, options = image, {}
        if scale != 1:
            cell = patches.patch_size * patches.merge_size
            width, height = (max(1, round(many * scale)) * cell for many in reversed(self.native(image).grid))
            shown, options = image.resize((width, height), Image.Resampling.BICUBIC), {"do_resize": False}
        elif self.max_pixels is not None and not video:  # a video's limit is each frame's or all frames' by its class
            limits = dict(patches.size)
            options = {"size": limits | {"longest_edge": min(self.max_pixels, limits["longest_edge"])}}
        return shown, {"videos_kwargs": options} if video and options else options

    def owned(self, vision: Mapping[str, Tensor]) -> tuple[Tensor, int]:
        name, processor = pixels_of(vision), self.processor
        pixels = vision[name]  # (patches, values), the patches of a token one after the other
        made_by = processor.image_processor if name == "pixel_values" else processor.video_processor
        token = torch.arange(len(pixels)) // made_by.merge_size**2
        return token[:, None].expand(pixels.shape), int(token[-1]) + 1


class Pixtral(Family):
    """Pixtral and Mistral 3: images of any size up to a longest side, which grows with the scale."""

    grows = True

    def sized(self, image: Image.Image, scale: float, enlargement: str) -> tuple[Image.Image, dict[str, Any]]:
        shown, options = super().sized(image, scale, enlargement)
        longest = self.processor.image_processor.size["longest_edge"]
        return shown, options | ({} if scale == 1 else {"size": {"longest_edge": round(longest * scale)}})


def family_of(model: nn.Module, processor: Any, name: str, **options: Any) -> Family:
    """The family that knows most of a model's class; the options are those of ``Sight``."""
    images, kind = type(processor.image_processor).__name__, type(model).__name__
    if "image_grid_thw" in inspect.signature(model.base_model.get_image_features).parameters:
        if not hasattr(processor.image_processor, "merge_size"):
            raise ValueError(
                f"the processor of {name} cuts images into no patches, which the model reads: they don't belong together"
            )
        found = Patches
    elif kind == "LlavaOnevisionForConditionalGeneration":
        found = OneVision
    elif "Pixtral" in images:
        found = Pixtral
    else:
        found = {"LlavaForConditionalGeneration": Llava, "InternVLForConditionalGeneration": InternVL}.get(kind, Family)
    return found(model, processor, name, **options)


def cut(pixels: Tensor, tiles: int) -> Tensor:
    """Tiles (..., tiles * tiles, channels, h, w), row-major, of pixels (..., channels, H, W)."""
    height, width = (side // tiles for side in pixels.shape[-2:])
    cells = pixels.unflatten(-1, (tiles, width)).unflatten(-3, (tiles, height))  # (..., c, row, h, col, w)
    return cells.movedim((-4, -2), (-5, -4)).flatten(-5, -4)
