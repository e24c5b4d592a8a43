"""InternVL: square tiles of fixed size, 2 x 2 patches to a token, tile after tile in the sequence."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from .family import Family, View
from .llava import cut


class InternVL(Family):
    """InternVLForConditionalGeneration: at scale 1 the image squashed to one tile, as TAM's released code has it.

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
        side = max(1, round(self.native * scale / self.cell)) * self.cell
        pixels = self._pixels(image, side)[None]
        tiles = int(scale) if enlargement == "crops" else 1
        rows = side // self.cell
        if tiles == 1:
            return {"vision": {"pixel_values": pixels}, "grid": (rows, rows), "region": (0.0, 0.0, 1.0, 1.0)}
        within = rows // tiles
        order = cut(torch.arange(rows * rows).view(1, rows, rows), tiles).flatten().argsort()
        return {
            "vision": {"pixel_values": torch.cat([cut(pixels[0], tiles), self._pixels(image, self.native)[None]])},
            "grid": (rows, rows),
            "region": (0.0, 0.0, 1.0, 1.0),
            "order": order,
            "tokens": rows * rows + within * within,
        }

    def _pixels(self, image: Image.Image, side: int) -> Tensor:
        size = {"height": side, "width": side}
        return self.processor.image_processor(image, size=size, crop_to_patches=False, return_tensors="pt")[
            "pixel_values"
        ][0]

    def masked(self, view: View, keep: Tensor) -> dict[str, Tensor]:
        pixels = view.vision["pixel_values"]
        mask = keep.float().view(-1, 1, *view.grid).repeat_interleave(self.cell, 2).repeat_interleave(self.cell, 3)
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

    def _joined(self, features: list[Tensor]) -> Tensor:
        return torch.cat(list(features))
