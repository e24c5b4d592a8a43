"""LLaVA: a CLIP tower of fixed size, usually given the centre crop of the image."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from .family import Family, View


class Llava(Family):
    """LlavaForConditionalGeneration: patches in row-major order, one token each, without the class token."""

    def __init__(self, model: nn.Module, processor: Any, name: str) -> None:
        super().__init__(model, processor, name)
        extra = processor.num_additional_image_tokens - (processor.vision_feature_select_strategy == "default")
        if extra != 0:
            raise ValueError(f"{name} has {extra} image tokens besides its patches: LLaVA models have none")
        self.patch: int = model.config.vision_config.patch_size

    def _look(self, image: Image.Image, scale: float, enlargement: str) -> dict[str, Any]:
        pixels = self._pixels(image, (1.0, 1.0), {})
        native = pixels.shape[1:]
        if any(side % self.patch for side in native):
            raise ValueError(
                f"{self.name} makes {tuple(native)} pixels of this image: no whole patches of {self.patch}"
            )
        tiles = 1
        if scale != 1:
            height, width = (max(1, round(side * scale / self.patch)) * self.patch for side in native)
            pixels = self._pixels(image, (height / native[0], width / native[1]), {"height": height, "width": width})
            tiles = int(scale) if enlargement == "crops" else 1
        return {
            "vision": {"pixel_values": cut(pixels, tiles)},
            "grid": (pixels.shape[1] // self.patch, pixels.shape[2] // self.patch),
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

    def _region(self, height: int, width: int, rows: int, cols: int) -> tuple[float, float, float, float]:
        """Top, left, bottom, right of the pixels (rows, cols) in an image of this height and width."""
        processor = self.processor.image_processor
        padded = max(height, width) if getattr(processor, "do_pad", False) else 0
        top, left = (max(0, padded - side) // 2 for side in (height, width))
        whole = (max(padded, height), max(padded, width))  # what is resized, with the padding
        resized = (rows, cols)
        short = dict(processor.size).get("shortest_edge")
        if getattr(processor, "do_center_crop", False):
            size = dict(processor.size)
            resized = (size.get("height"), size.get("width"))
            if short:
                resized = tuple(short if side == min(whole) else int(short * side / min(whole)) for side in whole)
        offset = [int((side - seen) / 2) for side, seen in zip(resized, (rows, cols), strict=True)]
        per_pixel = [side / pixels for side, pixels in zip(whole, resized, strict=True)]
        return (
            (offset[0] * per_pixel[0] - top) / height,
            (offset[1] * per_pixel[1] - left) / width,
            ((offset[0] + rows) * per_pixel[0] - top) / height,
            ((offset[1] + cols) * per_pixel[1] - left) / width,
        )

    def masked(self, view: View, keep: Tensor) -> dict[str, Tensor]:
        pixels = view.vision["pixel_values"]
        mask = keep.float().view(-1, 1, *view.grid).repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        return {"pixel_values": pixels * cut(mask, round(len(pixels) ** 0.5)).to(pixels)}

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


def cut(pixels: Tensor, tiles: int) -> Tensor:
    """Tiles (..., tiles * tiles, channels, h, w), row-major, of pixels (..., channels, H, W)."""
    height, width = (side // tiles for side in pixels.shape[-2:])
    cells = pixels.unflatten(-1, (tiles, width)).unflatten(-3, (tiles, height))  # (..., c, row, h, col, w)
    return cells.movedim((-4, -2), (-5, -4)).flatten(-5, -4)
