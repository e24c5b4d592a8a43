"""One class of models: how it sees an image and a prompt at one scale, and where in its input these are."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..clip.model import shortened, unknown_word
from ..files.checks import check_choices, check_number
from ..files.images import read_image

Picture = str | Path | Image.Image | np.ndarray
ENLARGEMENTS = ("interpolate", "crops")
Answers = Sequence[Sequence[int]]  # token ids
Key = tuple[float, str]  # scale and enlargement
NATIVE: Key = (1.0, "interpolate")
_MARK = "\ue000"  # private use: no template and no prompt holds it


@dataclass(frozen=True)
class View:
    """An image and a prompt at one scale; all tensors are on the CPU.

    Cells are the image tokens of the ``grid`` (rows, cols) in row-major order, whatever their order in the sequence.
    ids : (L0,) input ids, image placeholders expanded, up to and including the assistant's header. image_positions :
    (rows * cols,) position in ``ids`` of each cell. prompt_positions : (p,) those of the user's own prompt tokens, between
    the image and the header. region : top, left, bottom, right of what the grid covers, in fractions of the image; beyond
    0 to 1 where the processor pads it. vision : pixels of this one image, as the vision tower takes them. scale : side of
    the image in the model, relative to its native one.
    """

    ids: Tensor
    image_positions: Tensor
    grid: tuple[int, int]
    prompt_positions: Tensor
    region: tuple[float, float, float, float]
    vision: dict[str, Tensor]
    scale: float

    @property
    def feature_rows(self) -> Tensor:
        """(rows * cols,) row of each cell in this view's entry of what ``encode`` returns."""
        return self.image_positions - self.image_positions.min()


class Family(ABC):
    """One class of models: how it sees an image, and where in its input the image and the prompt are."""

    enlargements = ENLARGEMENTS

    def __init__(self, model: nn.Module, processor: Any, name: str) -> None:
        self.model, self.processor, self.name = model, processor, name
        self.tokenizer = processor.tokenizer
        self.image_token_id: int = model.config.image_token_id
        self.context_length: int = model.config.get_text_config().max_position_embeddings
        found = self.tokenizer.convert_tokens_to_ids(processor.image_token)
        if found != self.image_token_id:
            raise ValueError(
                f"the processor of {name} writes images as token {found} but the model reads {self.image_token_id}:"
                " they don't belong together"
            )
        self._around = lru_cache(maxsize=256)(self._tokenised)

    @abstractmethod
    def _look(self, image: Image.Image, scale: float, enlargement: str) -> dict[str, Any]:
        """What the vision tower gets: ``vision``, ``grid`` and ``region`` of a View, and, where they aren't the
        row-major cells themselves, ``order`` (cells,), the place of each cell among the image's tokens, and
        ``tokens``, their number."""

    @abstractmethod
    def masked(self, view: View, keep: Tensor) -> dict[str, Tensor]:
        """Pixels of b versions of a view's image in which the cells that aren't kept have the mean colour.

        keep: (b, rows * cols) of 0 and 1, row-major; values between them fade.
        """

    @abstractmethod
    def encode_pixels(self, view: View, pixels: dict[str, Tensor]) -> list[Tensor]:
        """Features (image tokens, D) after the projector, in sequence order, of b versions of a view's image.

        pixels: as ``masked`` gives them. One call of the vision tower; gradients flow.
        """

    def view(self, image: Picture, prompt: str, scale: float = 1.0, enlargement: str = "interpolate") -> View:
        """An image and a prompt as the model gets them at this scale.

        enlargement: "interpolate" resizes the image and the tower's position embeddings; "crops" cuts the
        resized image into scale x scale tiles, each seen at native size. Raises ValueError for an image, prompt
        or scale that the model can't take. Source: Liang et al., arXiv 2509.22415, section 3.2, reconstructed.
        """
        check_choices(enlargement=(enlargement, ENLARGEMENTS))
        if enlargement not in self.enlargements:
            raise ValueError(
                f"enlargement={enlargement!r}: {self.name} takes images of any size; use 'interpolate', not tiles"
            )
        check_number(0, open_low=True, scale=scale)
        if enlargement == "crops" and scale != int(scale):
            raise ValueError(
                f"scale={scale}: enlargement='crops' takes whole numbers, since it cuts scale x scale tiles"
            )
        ids, start, prompt_positions = self._around(self.check_text(prompt, "the prompt"))
        seen = self._look(read_image(image), float(scale), enlargement)
        rows, cols = seen["grid"]
        if min(rows, cols) < 2:  # which shows no place
            raise ValueError(
                f"scale={scale}: the image becomes {rows} x {cols} tokens, and at least 2 x 2 are needed; use a larger scale"
            )
        tokens = seen.get("tokens", rows * cols)
        length = len(ids) - 1 + tokens
        if length >= self.context_length:
            raise ValueError(
                f"scale={scale}: prompt and image have {length} tokens, {tokens} of them the image's, but {self.name}"
                f" takes {self.context_length} with the answer; use a smaller scale or a shorter prompt"
            )
        return View(
            ids=torch.cat([ids[:start], ids.new_full((tokens,), self.image_token_id), ids[start + 1 :]]),
            image_positions=start + seen.get("order", torch.arange(rows * cols)),
            grid=(rows, cols),
            prompt_positions=prompt_positions + tokens - 1,
            region=seen["region"],
            vision=seen["vision"],
            scale=float(scale),
        )

    def distinct_views(
        self, image: Picture, prompt: str, scales: Sequence[float] = (1.0,), enlargement: str = "interpolate"
    ) -> list[View]:
        """The views of an image and a prompt at all scales, in the order of ``scales``.

        Raises ValueError where two scales give the same grid, which would count that one twice, and whatever ``view``
        raises.
        """
        views: dict[tuple[int, int], View] = {}
        for scale in scales:
            view = self.view(image, prompt, scale, enlargement)
            if view.grid in views:
                (rows, cols), twin = view.grid, scales[list(views).index(view.grid)]
                raise ValueError(
                    f"scales {twin} and {scale} both give a grid of {rows} x {cols} image tokens for this image: leave one"
                    " out or move them further apart"
                )
            views[view.grid] = view
        return list(views.values())

    def encode(self, views: Sequence[View]) -> list[Tensor]:
        """Features (image tokens, D) of each view, in sequence order, after the projector; gradients flow.

        Views whose pixels have the same shape go through the vision tower in one batch.
        """
        groups: dict[tuple, list[int]] = {}
        for index, view in enumerate(views):
            groups.setdefault((view.grid, view.vision["pixel_values"].shape), []).append(index)
        features: dict[int, Tensor] = {}
        for group in groups.values():
            pixels = {"pixel_values": torch.stack([views[index].vision["pixel_values"] for index in group])}
            features |= zip(group, self.encode_pixels(views[group[0]], pixels), strict=True)
        return [features[index] for index in range(len(views))]

    def language_inputs(self, views: Sequence[View], ids: Tensor, features: Sequence[Tensor]) -> dict[str, Any]:
        """What the model needs besides ids (n, L) and their mask: the features of each view, already encoded."""
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=self._joined(features))}}

    def _joined(self, features: Sequence[Tensor]) -> Any:
        """Features of all samples as the model's class takes them."""
        return [torch.cat(list(features))]

    def check_text(self, text: str, label: str) -> str:
        """The text without blanks around it; ValueError, naming it, where the model can't take it as its user's words."""
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{label} ({text!r}) is empty or no text: at least one word is needed")
        text = text.strip()
        ids = set(self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
        if self.tokenizer.unk_token_id in ids:
            raise ValueError(f"{label} ({shortened(text)}): {unknown_word(self.tokenizer, text)}")
        special = {id_ for id_, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        found = sorted(ids & (special | {self.image_token_id, *self.tokenizer.all_special_ids}))
        if found:
            raise ValueError(
                f"{label} ({shortened(text)}) holds {', '.join(self.tokenizer.convert_ids_to_tokens(found))}, one of the"
                " model's own tokens: leave it out"
            )
        return text

    def check_fits(self, view: View, answer: Sequence[int] | Tensor) -> None:
        """Raise ValueError where an answer's ids don't fit behind a view's prompt and image."""
        if len(view.ids) + len(answer) > self.context_length:
            raise ValueError(
                f"an answer of {len(answer)} tokens after {len(view.ids)} of prompt and image is longer than the"
                f" {self.context_length} that {self.name} takes"
            )
        if self.image_token_id in list(map(int, answer)):
            raise ValueError(f"an answer holds the image token {self.image_token_id}: it stands for no word")

    def _image_text(self) -> str:
        """What stands for the image in the text, with one token for all of its cells."""
        return self.processor.image_token

    def _rendered(self, prompt: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        text = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        return text.replace(self.processor.image_token, self._image_text())

    def _tokenised(self, prompt: str) -> tuple[Tensor, int, Tensor]:
        """Ids with one image token, its position, and those of the prompt's tokens."""
        before, after = self._rendered(_MARK).split(_MARK)
        text = self._rendered(prompt)
        if before.count(self.processor.image_token) != 1 or text != before + prompt + after:
            raise ValueError(
                f"the chat template of {self.name} must write one image, then the prompt as it is; it writes {shortened(text)}"
            )
        bos = self.tokenizer.bos_token
        adds = bos is None or not text.startswith(bos)
        encoded = self.tokenizer(text, add_special_tokens=adds, return_offsets_mapping=True)
        ids = torch.tensor(encoded.input_ids)
        first, last = torch.tensor(encoded.offset_mapping).T
        own = (first < len(before) + len(prompt)) & (last > len(before)) & (last > first)
        return ids, encoded.input_ids.index(self.image_token_id), own.nonzero()[:, 0]
