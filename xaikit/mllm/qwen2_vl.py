"""Qwen2-VL and Qwen2.5-VL: images of any size, 2 x 2 patches to a token."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from .family import Family, View


class Qwen2VL(Family):
    """Qwen2VLForConditionalGeneration and Qwen2_5_VLForConditionalGeneration: at scale 1 what the processor does
    by default; at others that size times the scale, to whole tokens and without the processor's limits."""

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
        return {"vision": dict(seen), "grid": (rows, cols), "region": (0.0, 0.0, 1.0, 1.0)}

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
