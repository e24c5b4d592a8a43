"""Any class of models: how it sees an image and a prompt at one scale, and where in its input these are."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..files.checks import check_choices, check_number
from ..files.images import read_image
from .sight import Sight, of_image
from .view import ENLARGEMENTS, Picture, View


class Family(Sight):
    """Any class whose model takes encoded images (``mm_encoder_outputs``): what it is given is read off its processor, and
    where the image's tokens are off its vision tower. A subclass of a few lines says what a class can do beyond that."""

    _encoded: dict[View, Tensor] | None = None

    def view(self, image: Picture, prompt: str, scale: float = 1.0, enlargement: str = "interpolate") -> View:
        """An image and a prompt as the model gets them at this scale.

        enlargement: "interpolate" resizes the image and the tower's position embeddings; "crops" cuts the
        resized image into scale x scale tiles, each seen at native size. Raises ValueError for an image, prompt
        or scale that the model can't take. Source: Liang et al., arXiv 2509.22415, section 3.2, reconstructed.
        """
        check_choices(enlargement=(enlargement, ENLARGEMENTS))
        if enlargement not in self.enlargements:
            raise ValueError(f"enlargement={enlargement!r}: {self.name} can't be given more tiles; use 'interpolate'")
        check_number(0, open_low=True, scale=scale)
        if enlargement == "crops" and scale != int(scale):
            raise ValueError(
                f"scale={scale}: enlargement='crops' takes whole numbers, since it cuts scale x scale tiles"
            )
        prompt = self.wording.check(prompt, "the prompt")
        text = self.wording.rendered(prompt)
        image = self.within(read_image(image))
        seen, places = self.seen(image, text, scale, enlargement)
        ids, vision = seen["input_ids"][0], of_image(seen)
        rows, cols = places.grid
        if min(rows, cols) < 2:  # which shows no place
            raise ValueError(
                f"scale={scale}: the image becomes {rows} x {cols} tokens, and at least 2 x 2 are needed; use a larger scale"
            )
        if scale != 1 and not self.grows and places.grid == self.native(image).grid:
            raise ValueError(
                f"scale={scale}: {self.name} brings an image to the same {rows} x {cols} tokens at any scale; use scale 1"
            )
        return View(
            ids=ids,
            kinds={name: seen[name][0] for name in self._kinds if name in seen},
            tokens=(ids == self.image_token_id).nonzero()[:, 0],
            places=places,
            prompt_positions=self.wording.own(seen, prompt),
            vision=vision,
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
        known = self._encoded or {}
        features = {index: known[view] for index, view in enumerate(views) if view in known}
        for group in _alike(views, features):
            vision = [views[index].vision for index in group]
            rows = self.rows(self.run({name: torch.cat([one[name] for one in vision]) for name in vision[0]}))
            features |= zip(group, rows.split([len(views[index].tokens) for index in group]), strict=True)
        if self._encoded is not None and not torch.is_grad_enabled():
            self._encoded.update((view, features[index]) for index, view in enumerate(views))
        return [features[index] for index in range(len(views))]

    @contextmanager
    def encoding_once(self) -> Iterator[None]:
        """Keep the features of what is encoded without gradients, for as long as this lasts."""
        self._encoded = {}
        try:
            yield
        finally:
            self._encoded = None

    def masked(self, views: Sequence[View], keep: Tensor) -> list[View]:
        """The views with images in which the cells that aren't kept have the mean colour, wherever else in the input they are
        seen, too, as in thumbnails.

        keep: (n, rows * cols) of 0 and 1, row-major; values between them fade. All views have the same grid.
        """
        found: dict[int, View] = {}
        kept = torch.cat([keep.float(), torch.ones(len(keep), 1)], 1)  # the last one stands for no cell
        for group in _alike(views):
            some = [views[index] for index in group]
            cells = torch.stack([view.places.cell_of for view in some]).long() % kept.shape[1]
            share = kept[group].gather(1, cells.flatten(1)).view(cells.shape)
            fill = torch.tensor([view.places.fill for view in some]).view(-1, *[1] * (cells.ndim - 1))
            pixels = torch.stack([view.vision["pixel_values"] for view in some]) * share + (1 - share) * fill
            for index, view, one in zip(group, some, pixels, strict=True):
                found[index] = replace(view, vision=view.vision | {"pixel_values": one})
        return [found[index] for index in range(len(views))]

    def language_inputs(
        self, views: Sequence[View], ids: Tensor, features: Sequence[Tensor], padded_left: bool = False
    ) -> dict[str, Any]:
        """What the model needs besides ids (n, L), answers and padding behind those of the views, or padding before them, and
        their mask: the features of each view, already encoded, and what else the class asks of tokens and images."""
        listed, shape, other, kind, deep, apart = self._form
        parts = [rows.chunk(deep + 1, -1) for rows in features]
        main = [part[0] for part in parts]
        joined = main if listed else torch.cat(main).reshape(-1, *shape)
        out = kind(pooler_output=joined) if other or deep else BaseModelOutputWithPooling(pooler_output=joined)
        for name, values in other.items():
            out[name] = values
        if deep:
            levels = [[part[level + 1] for part in parts] for level in range(deep)]
            out["deepstack_features"] = levels if apart else [torch.cat(level) for level in levels]
        found: dict[str, Any] = {"mm_encoder_outputs": {"image": out}}
        for name in self._shared & set(views[0].vision):
            found[name] = torch.cat([view.vision[name] for view in views]).to(ids.device)
        for name in self._kinds & set(views[0].kinds):
            # Kinds that don't tell the image apart are those of a prefix, which the answer isn't of (PaliGemma).
            text = int(not any(view.kinds[name].any() for view in views))
            kinds = ids.new_full(ids.shape, text)
            for row, view in zip(kinds, views, strict=True):
                start = len(row) - len(view.ids) if padded_left else 0
                row[start : start + len(view.ids)] = view.kinds[name]
            found[name] = kinds
        return found

    def check_fits(self, view: View, answer: Sequence[int] | Tensor) -> None:
        """Raise ValueError where an answer's ids don't fit behind a view's prompt and image."""
        if len(view.ids) + len(answer) > self.context_length:
            raise ValueError(
                f"an answer of {len(answer)} tokens after {len(view.ids)} of prompt and image is longer than the"
                f" {self.context_length} that {self.name} takes"
            )
        if self.image_token_id in list(map(int, answer)):
            raise ValueError(f"an answer holds the image token {self.image_token_id}: it stands for no word")


def _alike(views: Sequence[View], done: Collection[int] = ()) -> list[list[int]]:
    """The places in ``views`` of those whose images have the same shape, without those that are done."""
    groups: dict[tuple, list[int]] = {}
    for index, view in enumerate(views):
        if index not in done:
            groups.setdefault(view.shape, []).append(index)
    return list(groups.values())
