"""Any class of models: how it sees an image and a prompt at one scale, and where in its input these are."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..files.checks import check_choices, check_number
from ..files.images import read_image
from .places import Places
from .sight import Sight, many, of_image
from .view import ENLARGEMENTS, Medium, Picture, Seen, Video, View
from .wording import IMAGE, Said


class Family(Sight):
    """Any class whose model takes encoded images (``mm_encoder_outputs``): what it is given is read off its processor, and
    where the image's tokens are off its vision tower. A subclass of a few lines says what a class can do beyond that."""

    _encoded: dict[Seen, Tensor] | None = None

    def view(
        self,
        image: Picture | Sequence[Picture | Video],
        prompt: str | Said,
        scale: float = 1.0,
        enlargement: str = "interpolate",
    ) -> View:
        """An image and a prompt as the model gets them at this scale; or several images and videos, as a list, and the
        conversation that names them, as ``wording.said`` makes it.

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
        said = prompt if isinstance(prompt, Said) else self.wording.asked(prompt)
        given = image if isinstance(image, list | tuple) else [image]
        pictures = [
            self.within(each if isinstance(each, Video) else read_image(each, index))
            for index, each in enumerate(given)
        ]
        if len(pictures) == 1:
            alone = [self.seen(pictures[0], said, scale, enlargement)]
            whole = alone[0][0]
        else:
            whole, alone = self._several(pictures, said, scale, enlargement)
        for each, (_, places) in zip(pictures, alone, strict=True):
            self._check_grid(each, places, scale)
        ids = whole["input_ids"][0]
        tokens = torch.isin(ids, self.placeholders).nonzero()[:, 0].split([len(places.boxes) for _, places in alone])
        images = tuple(Seen(own, places, of_image(seen)) for own, (seen, places) in zip(tokens, alone, strict=True))
        marks = {(seen.pixels, int(ids[seen.tokens[0]])) for seen in images}
        if len({token for _, token in marks}) < len(marks):
            raise ValueError(
                f"{self.name} writes the same token for images and for frames of videos, and its own code can't tell them apart:"
                " give images or videos, not both, or a video's frames as images"
            )
        return View(
            ids=ids,
            kinds={name: whole[name][0] for name in self._kinds if name in whole},
            images=images,
            prompt_positions=self.wording.own(whole, said),
            scale=float(scale),
        )

    def possible_scales(self, image: Picture, scales: Sequence[float], enlargement: str = "interpolate") -> list[float]:
        """Those of the scales, in order, at which the model sees this image with a grid of its own; models of one input size
        have one. Scale 1 is always seen.

        Examples
        --------
        >>> import xaikit as xk
        >>> family, image = xk.load_mllm().family, xk.draw_descriptions(1, seed=1).image.values[0]
        >>> family.possible_scales(image, [1.0, 1.01, 2.0, 5.0])
        [1.0, 2.0]
        """
        check_choices(enlargement=(enlargement, ENLARGEMENTS))
        for scale in scales:
            check_number(0, what="number", open_low=True, scale=scale)
        said = self.wording.blank(IMAGE)
        grids, found = {self.view(image, said).grid}, []
        for scale in scales:
            try:
                grid = self.view(image, said, scale, enlargement).grid
            except ValueError:
                continue
            if scale == 1 or grid not in grids:
                found.append(scale)
            grids.add(grid)
        return found

    def encode(self, views: Sequence[View]) -> list[Tensor]:
        """Features (image tokens, D) of each view, in sequence order, after the projector; gradients flow.

        Images whose pixels have the same shape go through the vision tower in one batch.
        """
        known = self._encoded or {}
        images = [seen for view in views for seen in view.images]
        features = {index: known[seen] for index, seen in enumerate(images) if seen in known}
        for group in _alike(images, features):
            vision = [images[index].vision for index in group]
            rows = self.rows(
                self.run({name: torch.cat([one[name] for one in vision]) for name in vision[0]}),
                images[group[0]].pixels,
            )
            features |= zip(group, rows.split([len(images[index].tokens) for index in group]), strict=True)
        if self._encoded is not None and not torch.is_grad_enabled():
            self._encoded.update((seen, features[index]) for index, seen in enumerate(images))
        each = iter([features[index] for index in range(len(images))])
        parts = [[next(each) for _ in view.images] for view in views]
        return [part[0] if len(part) == 1 else torch.cat(part) for part in parts]

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

        keep: (n, cells) of 0 and 1, row-major, image by image; values between them fade. All views have the same grids.
        """
        sizes = [len(seen.places.order) for seen in views[0].images]
        images = [seen for view in views for seen in view.images]
        kept = [part for row in keep.float() for part in row.split(sizes)]
        found: dict[int, Seen] = {}
        for group in _alike(images):
            some = [images[index] for index in group]
            shares = torch.stack([F.pad(kept[index], (0, 1), value=1.0) for index in group])  # the last is no cell's
            cells = torch.stack([seen.places.cell_of for seen in some]).long()
            share = shares.gather(1, (cells % shares.shape[1]).flatten(1)).view(cells.shape)
            fill = torch.tensor([seen.places.fill for seen in some]).view(-1, *[1] * (cells.ndim - 1))
            pixels = torch.stack([seen.vision[seen.pixels] for seen in some]) * share + (1 - share) * fill
            for index, seen, one in zip(group, some, pixels, strict=True):
                found[index] = replace(seen, vision=seen.vision | {seen.pixels: one})
        each = iter([found[index] for index in range(len(images))])
        return [replace(view, images=tuple(next(each) for _ in view.images)) for view in views]

    def language_inputs(
        self, views: Sequence[View], ids: Tensor, features: Sequence[Tensor], padded_left: bool = False
    ) -> dict[str, Any]:
        """What the model needs besides ids (n, L), answers and padding behind those of the views, or padding before them, and
        their mask: the features of each view, already encoded, and what else the class asks of tokens and images."""
        images = [seen for view in views for seen in view.images]
        counts = [[len(seen.tokens) for seen in view.images] for view in views]
        each = [rows for whole, sizes in zip(features, counts, strict=True) for rows in whole.split(sizes)]
        encoded = {}
        for pixels, modality in (("pixel_values", "image"), ("pixel_values_videos", "video")):
            if own := [rows for rows, seen in zip(each, images, strict=True) if seen.pixels == pixels]:
                encoded[modality] = self._as_encoded(own, pixels)
        found: dict[str, Any] = {"mm_encoder_outputs": encoded}
        for name in self._shared & {name for seen in images for name in seen.vision}:
            found[name] = torch.cat([seen.vision[name] for seen in images if name in seen.vision]).to(ids.device)
        for name in self._kinds & set(views[0].kinds):
            # Kinds that don't tell the image apart are those of a prefix, which the answer isn't of (PaliGemma).
            text = int(not any(view.kinds[name].any() for view in views))
            kinds = ids.new_full(ids.shape, text)
            for row, view in zip(kinds, views, strict=True):
                start = len(row) - len(view.ids) if padded_left else 0
                row[start : start + len(view.ids)] = view.kinds[name]
            found[name] = kinds
        return found

    def _as_encoded(self, each: Sequence[Tensor], pixels: str) -> Any:
        """Features of each image as the encoder of ``pixels`` hands them out."""
        listed, shape, other, kind, deep, apart = self._forms[pixels]
        parts = [rows.chunk(deep + 1, -1) for rows in each]
        main = [part[0] for part in parts]
        joined = main if listed else torch.cat(main).reshape(-1, *shape)
        out = kind(pooler_output=joined) if other or deep else BaseModelOutputWithPooling(pooler_output=joined)
        for name, values in other.items():
            out[name] = values
        if deep:
            levels = [[part[level + 1] for part in parts] for level in range(deep)]
            out["deepstack_features"] = levels if apart else [torch.cat(level) for level in levels]
        return out

    def _several(
        self, pictures: Sequence[Medium], said: Said, scale: float, enlargement: str
    ) -> tuple[dict[str, Any], list[tuple[dict[str, Any], Places]]]:
        """What the processor makes of several images and a conversation, and of each by itself, with its places: as it is seen
        alone or, where these tokens aren't those of all together, or it can't be seen so, as one among as many alike."""
        whole, found, refused = None, 0, None
        for among in (1, len(pictures)):  # classes may show tiles of one image alone
            try:
                alone = [self.seen(each, None, scale, enlargement, among) for each in pictures]
            except ValueError as error:
                refused = refused or error
                continue
            if whole is None:
                whole, found = self.seen_together(pictures, said, scale, enlargement)
            counts = [len(places.boxes) for _, places in alone]
            if sum(counts) == found:
                return whole, alone
        raise refused or ValueError(
            f"{self.name} makes {found} tokens of {many(pictures)} together, but {sum(counts)} of each by itself, so that"
            " their places can't be told: give one image"
        )

    def _check_grid(self, image: Medium, places: Places, scale: float) -> None:
        rows, cols = places.grid
        if min(rows, cols) < 2:  # which shows no place
            raise ValueError(
                f"scale={scale}: the image becomes {rows} x {cols} tokens, and at least 2 x 2 are needed; use a larger scale"
            )
        if scale != 1 and (not self.grows or isinstance(image, Video)) and places.grid == self.native(image).grid:
            raise ValueError(
                f"scale={scale}: {self.name} brings an image to the same {rows} x {cols} tokens at any scale; use scale 1"
            )

    def check_fits(self, view: View, answer: Sequence[int] | Tensor) -> None:
        """Raise ValueError where an answer's ids don't fit behind a view's prompt and image."""
        if len(view.ids) + len(answer) > self.context_length:
            raise ValueError(
                f"an answer of {len(answer)} tokens after {len(view.ids)} of prompt and image is longer than the"
                f" {self.context_length} that {self.name} takes"
            )
        if self.image_token_id in list(map(int, answer)):
            raise ValueError(f"an answer holds the image token {self.image_token_id}: it stands for no word")


def check_distinct(views: Sequence[View]) -> None:
    """Raise ValueError where two of these give an image the same grid, which would count that one twice."""
    for twin, view in combinations(views, 2):
        if alike := [a for a, b in zip(view.grids, twin.grids, strict=True) if a == b]:
            rows, cols = alike[0]
            raise ValueError(
                f"scales {twin.scale} and {view.scale} both give a grid of {rows} x {cols} image tokens for this image: leave"
                " one out or move them further apart"
            )


def _alike(images: Sequence[Seen], done: Collection[int] = ()) -> list[list[int]]:
    """The places in ``images`` of those that have the same shape, without those that are done."""
    groups: dict[tuple, list[int]] = {}
    for index, seen in enumerate(images):
        if index not in done:
            groups.setdefault(seen.shape, []).append(index)
    return list(groups.values())
