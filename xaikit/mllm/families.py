"""The classes of models: LLaVA, Qwen2-VL and Qwen2.5-VL, InternVL. A further one is a class here and a line of ``FAMILIES``."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from .family import Family, View

WHOLE = (0.0, 0.0, 1.0, 1.0)


class Llava(Family):
    """LlavaForConditionalGeneration: a CLIP tower of fixed size, usually given the centre crop of the image; patches in
    row-major order, one token each, without the class token."""

    def __init__(self, model: nn.Module, processor: Any, name: str) -> None:
        super().__init__(model, processor, name)
        extra = processor.num_additional_image_tokens - (processor.vision_feature_select_strategy == "default")
        if extra != 0:
            raise ValueError(f"{name} has {extra} image tokens besides its patches: LLaVA models have none")
        self.cell: int = model.config.vision_config.patch_size

    def _look(self, image: Image.Image, scale: float, enlargement: str) -> dict[str, Any]:
        pixels = self._pixels(image, (1.0, 1.0), {})
        native = pixels.shape[1:]
        if any(side % self.cell for side in native):
            raise ValueError(f"{self.name} makes {tuple(native)} pixels of this image: no whole patches of {self.cell}")
        tiles = 1
        if scale != 1:
            height, width = (max(1, round(side * scale / self.cell)) * self.cell for side in native)
            pixels = self._pixels(image, (height / native[0], width / native[1]), {"height": height, "width": width})
            tiles = int(scale) if enlargement == "crops" else 1
        return {
            "vision": {"pixel_values": cut(pixels, tiles)},
            "grid": (pixels.shape[1] // self.cell, pixels.shape[2] // self.cell),
            "region": self._region(image.height, image.width, *native),
        }

    def _pixels(self, image: Image.Image, factors: tuple[float, float], crop: dict[str, int]) -> Tensor:
        """Pixels (3, H, W); the sizes the processor resizes and crops to are multiplied by the factors."""
        processor, options = self.processor.image_processor, {}
        if crop:
            size = {name: value for name, value in dict(processor.size).items() if value}
            vertical = {"height": factors[0], "width": factors[1]}
            options["size"] = {name: round(value * vertical.get(name, max(factors))) for name, value in size.items()}
            if getattr(processor, "do_center_crop", False):
                options["crop_size"] = crop
        return processor(image, return_tensors="pt", **options)["pixel_values"][0]

    def _region(self, height: int, width: int, rows: int, cols: int) -> tuple[float, ...]:
        """Top, left, bottom, right of the pixels (rows, cols) in an image of this height and width."""
        processor, seen = self.processor.image_processor, (rows, cols)
        padded = max(height, width) if getattr(processor, "do_pad", False) else 0
        whole = (max(padded, height), max(padded, width))  # what is resized, with the padding
        resized = seen
        if getattr(processor, "do_center_crop", False):
            size = dict(processor.size)
            resized, short = (size.get("height"), size.get("width")), size.get("shortest_edge")
            if short:
                resized = tuple(short if side == min(whole) else int(short * side / min(whole)) for side in whole)
        low, high = [], []
        for side, total, pixels, cells in zip((height, width), whole, resized, seen, strict=True):
            start, before = int((pixels - cells) / 2), max(0, padded - side) // 2
            low.append((start * total / pixels - before) / side)
            high.append(((start + cells) * total / pixels - before) / side)
        return *low, *high

    def masked(self, view: View, keep: Tensor) -> dict[str, Tensor]:
        pixels = view.vision["pixel_values"]
        return {"pixel_values": pixels * cut(_enlarged(keep, view, self.cell), round(len(pixels) ** 0.5)).to(pixels)}

    def encode_pixels(self, view: View, pixels: dict[str, Tensor]) -> list[Tensor]:
        values = pixels["pixel_values"]  # (b, tiles, 3, h, w)
        native = self.model.config.vision_config.image_size
        other = {"interpolate_pos_encoding": True} if values.shape[-2:] != (native, native) else {}
        found = self.model.model.get_image_features(
            values.flatten(0, 1).to(self.model.device, self.model.dtype), return_dict=True, **other
        )
        side = round(values.shape[1] ** 0.5)
        rows, cols = view.grid
        tiled = torch.stack(list(found.pooler_output)).unflatten(0, (-1, side, side))
        tiled = tiled.unflatten(3, (rows // side, cols // side))  # (b, tile row, tile col, row, col, D)
        return list(tiled.transpose(2, 3).flatten(1, 4))


class InternVL(Family):
    """InternVLForConditionalGeneration: square tiles of fixed size, 2 x 2 patches to a token, tile after tile; at scale 1
    the image squashed to one tile, as TAM's released code has it.

    With ``enlargement="crops"`` the tiles come row by row and, as the class's own processor gives them, the whole
    image at native size as the last one; its tokens are in the sequence but are no cells of the grid.
    """

    def __init__(self, model: nn.Module, processor: Any, name: str) -> None:
        super().__init__(model, processor, name)
        vision = model.config.vision_config
        self.native: int = vision.image_size[0]
        self.cell = round(vision.patch_size[0] / model.config.downsample_ratio)  # pixels per side of a token

    def _image_text(self) -> str:
        return self.processor.start_image_token + self.processor.image_token + self.processor.end_image_token

    def _look(self, image: Image.Image, scale: float, enlargement: str) -> dict[str, Any]:
        rows, tiles = max(1, round(self.native * scale / self.cell)), int(scale) if enlargement == "crops" else 1
        parts = cut(self._pixels(image, rows * self.cell), tiles)
        seen = {"vision": {"pixel_values": parts}, "grid": (rows, rows), "region": WHOLE}
        if tiles == 1:
            return seen
        return seen | {
            "vision": {"pixel_values": torch.cat([parts, self._pixels(image, self.native)[None]])},
            "order": cut(torch.arange(rows * rows).view(1, rows, rows), tiles).flatten().argsort(),
            "tokens": rows * rows + (rows // tiles) ** 2,
        }

    def _pixels(self, image: Image.Image, side: int) -> Tensor:
        options = {"size": {"height": side, "width": side}, "crop_to_patches": False}
        return self.processor.image_processor(image, return_tensors="pt", **options)["pixel_values"][0]

    def masked(self, view: View, keep: Tensor) -> dict[str, Tensor]:
        pixels, mask = view.vision["pixel_values"], _enlarged(keep, view, self.cell)
        tiles = round(max(1, len(pixels) - 1) ** 0.5)
        parts = cut(mask, tiles)
        if tiles > 1:
            parts = torch.cat([parts, functional.interpolate(mask, size=pixels.shape[-2:])[:, None]], 1)
        return {"pixel_values": pixels * parts.to(pixels)}

    def encode_pixels(self, view: View, pixels: dict[str, Tensor]) -> list[Tensor]:
        values = pixels["pixel_values"]  # (b, tiles, 3, side, side)
        found = self.model.model.get_image_features(
            values.flatten(0, 1).to(self.model.device, self.model.dtype), return_dict=True
        )
        return list(found.pooler_output.unflatten(0, values.shape[:2]).flatten(1, 2))

    def _joined(self, features: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(features))


class Qwen2VL(Family):
    """Qwen2VLForConditionalGeneration and Qwen2_5_VLForConditionalGeneration: images of any size, 2 x 2 patches to a token;
    at scale 1 what the processor does by default, at others that size times the scale, to whole tokens and without the
    processor's limits."""

    enlargements = ("interpolate",)

    def __init__(self, model: nn.Module, processor: Any, name: str) -> None:
        super().__init__(model, processor, name)
        images = processor.image_processor
        self.merged: int = images.merge_size**2  # patches a token
        self.cell: int = images.patch_size * images.merge_size  # pixels per side of a token

    def _look(self, image: Image.Image, scale: float, enlargement: str) -> dict[str, Any]:
        processor, options = self.processor.image_processor, {}
        if max(image.size) > 200 * min(image.size):
            raise ValueError(
                f"an image of {image.width} x {image.height} pixels: {self.name} takes sides of up to 1 : 200"
            )
        if scale != 1:
            limits = dict(processor.size)
            native = smart_resize(image.height, image.width, self.cell, limits["shortest_edge"], limits["longest_edge"])
            height, width = (max(1, round(side * scale / self.cell)) * self.cell for side in native)
            image, options = image.resize((width, height), Image.Resampling.BICUBIC), {"do_resize": False}
        seen = processor(image, return_tensors="pt", **options)
        _, rows, cols = (seen["image_grid_thw"][0] // processor.merge_size).tolist()
        return {"vision": dict(seen), "grid": (rows, cols), "region": WHOLE}

    def masked(self, view: View, keep: Tensor) -> dict[str, Tensor]:
        pixels = view.vision["pixel_values"]
        return {"pixel_values": pixels * keep.to(pixels).repeat_interleave(self.merged, 1)[..., None]}

    def encode_pixels(self, view: View, pixels: dict[str, Tensor]) -> list[Tensor]:
        values = pixels["pixel_values"]  # (b, patches, values a patch)
        grids = view.vision["image_grid_thw"].expand(len(values), 3).to(self.model.device)
        found = self.model.model.get_image_features(values.flatten(0, 1).to(self.model.device), grids, return_dict=True)
        return list(found.pooler_output)

    def language_inputs(self, views: Sequence[View], ids: Tensor, features: Sequence[Tensor]) -> dict[str, Any]:
        return super().language_inputs(views, ids, features) | {
            "image_grid_thw": torch.cat([view.vision["image_grid_thw"] for view in views]).to(ids.device),
            "mm_token_type_ids": (ids == self.image_token_id).int(),
        }


FAMILIES: dict[str, type[Family]] = {
    "LlavaForConditionalGeneration": Llava,
    "Qwen2VLForConditionalGeneration": Qwen2VL,
    "Qwen2_5_VLForConditionalGeneration": Qwen2VL,
    "InternVLForConditionalGeneration": InternVL,
}


def cut(pixels: Tensor, tiles: int) -> Tensor:
    """Tiles (..., tiles * tiles, channels, h, w), row-major, of pixels (..., channels, H, W)."""
    height, width = (side // tiles for side in pixels.shape[-2:])
    cells = pixels.unflatten(-1, (tiles, width)).unflatten(-3, (tiles, height))  # (..., c, row, h, col, w)
    return cells.movedim((-4, -2), (-5, -4)).flatten(-5, -4)


def _enlarged(keep: Tensor, view: View, cell: int) -> Tensor:
    """What is kept of the cells (b, cells) in pixels, (b, 1, H, W)."""
    return keep.float().view(-1, 1, *view.grid).repeat_interleave(cell, 2).repeat_interleave(cell, 3)
