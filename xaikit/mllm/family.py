"""Any class of models: how it sees an image and a prompt at one scale, and where in its input these are."""

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..files.checks import check_choices, check_number
from ..files.images import read_image
from .places import Places, coordinates, located, owners, without_mixing
from .view import ENLARGEMENTS, Picture, View
from .wording import KINDS, Wording

# Of what an encoder returns, that which isn't handed on as it is.
_KNOWN = ("pooler_output", "last_hidden_state", "hidden_states", "attentions", "deepstack_features")
PATCH = 32  # pixels that rounding to whole patches may add to a side


class Family:
    """Any class whose model takes encoded images (``mm_encoder_outputs``): what it is given is read off its processor, and
    where the image's tokens are off its vision tower. A subclass of a few lines says what a class can do beyond that.

    max_pixels : the most pixels of an image that the model gets, None for no limit but the processor's.
    """

    enlargements: tuple[str, ...] = ("interpolate",)
    grows = False  # whether the processor's limits are lifted for scales above 1

    def __init__(self, model: nn.Module, processor: Any, name: str, max_pixels: int | None = None) -> None:
        self.model, self.processor, self.name, self.max_pixels = model, processor, name, max_pixels
        self.wording = Wording(processor, model.config.image_token_id, name)
        self.image_token_id: int = model.config.image_token_id
        self.context_length: int = model.config.get_text_config().max_position_embeddings
        self.encoder = model.base_model.get_image_features
        self._taken = set(inspect.signature(self.encoder).parameters)
        asked = set(inspect.signature(model.base_model.forward).parameters)
        self._kinds = asked & set(KINDS)
        self._shared = asked - (self._taken - {"image_grid_thw"}) - self._kinds  # what language layers ask of the image
        # What the model reads as images wherever it stands, and an untrained one may write.
        self.unwritable = [self.image_token_id, *(getattr(model.config, "visual_indicator_token_ids", None) or [])]
        self._places: dict[tuple, Places] = {}
        self._owners: dict[tuple, tuple[Tensor, int]] = {}
        self._form: tuple[Any, ...] = ()
        self._encoded: dict[View, Tensor] | None = None

    # what subclasses say otherwise

    def sized(self, image: Image.Image, scale: float, enlargement: str) -> tuple[Image.Image, dict[str, Any]]:
        """The image that the processor gets at a scale, and its options."""
        if scale == 1:
            return image, {}
        return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC), {}

    def made(self, image: Any, text: str, options: dict[str, Any]) -> dict[str, Any]:
        """What the processor makes of an image and a text; ``options`` are those of ``sized``."""
        return self.wording.processed(image, text, options)

    def run(self, vision: Mapping[str, Tensor]) -> Any:
        """What the class's own encoder makes of pixels, of one image or of several, one after the other."""
        device, dtype = self.model.device, self.model.dtype
        moved = {
            name: values.to(device, dtype if values.is_floating_point() else None)
            for name, values in vision.items()
            if name in self._taken
        }
        return self.encoder(**moved, return_dict=True)

    def owned(self, vision: Mapping[str, Tensor]) -> tuple[Tensor, int]:
        """The token that each element of an image's pixels feeds, and how many tokens there are; see ``owners``."""
        with without_mixing(self.model.base_model):
            return owners(
                lambda pixels: self._rows(self.run({**vision, "pixel_values": pixels})), vision["pixel_values"]
            )

    # what all share

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
        image = self._within(read_image(image))
        seen, places = self._seen(image, text, scale, enlargement)
        ids, vision = seen["input_ids"][0], _of_image(seen)
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
            rows = self._rows(self.run({name: torch.cat([one[name] for one in vision]) for name in vision[0]}))
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
            cells = torch.stack([view.places.cell_of for view in some]) % kept.shape[1]
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

    def native(self, image: Image.Image) -> Places:
        """The places of an image's tokens at scale 1."""
        return self._seen(image, self.wording.blank)[1]

    def check_processor(self) -> None:
        """Raise ValueError for a processor that doesn't write the image as the token that the model reads."""
        ids = self.made(Image.new("RGB", (64, 64)), self.wording.blank, {})["input_ids"]
        if not (ids == self.image_token_id).any():
            raise ValueError(
                f"the processor of {self.name} writes no token {self.image_token_id}, which the model reads as the image's:"
                " they don't belong together"
            )

    # inside

    def _within(self, image: Image.Image) -> Image.Image:
        """The image, shrunk to ``max_pixels``."""
        many = image.width * image.height
        if self.max_pixels is None or many <= self.max_pixels:
            return image
        factor = (self.max_pixels / many) ** 0.5
        return image.resize([max(1, int(side * factor)) for side in image.size], Image.Resampling.BICUBIC)

    def _seen(
        self, image: Image.Image, text: str, scale: float = 1.0, enlargement: str = "interpolate"
    ) -> tuple[dict[str, Any], Places]:
        """What the processor makes of an image and a text at a scale, and the places of the image's tokens."""
        shown, options = self.sized(image, scale, enlargement)
        try:
            seen = self.made(shown, text, options)
        except ValueError as error:
            size = f"an image of {image.width} x {image.height} pixels"
            raise ValueError(f"{size} at scale {scale} is refused by the processor of {self.name}: {error}") from error
        vision, ids = _of_image(seen), seen["input_ids"][0]
        tokens = int((ids == self.image_token_id).sum())
        many = vision["pixel_values"].numel() // 3 // getattr(self.processor.image_processor, "temporal_patch_size", 1)
        if self.max_pixels is not None and many > (self.max_pixels**0.5 + PATCH) ** 2:
            raise ValueError(
                f"scale={scale}: {self.name} makes {many} pixels of this image, more than max_pixels={self.max_pixels}: use"
                " a smaller scale or a larger max_pixels"
            )
        if len(ids) >= self.context_length:
            raise ValueError(
                f"scale={scale}: prompt and image have {len(ids)} tokens, {tokens} of them the image's, but {self.name}"
                f" takes {self.context_length} with the answer; use a smaller scale or a shorter prompt"
            )
        key = (shown.size, scale, enlargement)
        if key not in self._places:
            self._places[key] = self._located(shown, options, vision, tokens)
        return seen, self._places[key]

    @torch.no_grad()
    def _located(self, shown: Image.Image, options: dict[str, Any], vision: dict[str, Tensor], tokens: int) -> Places:
        others = sorted(set(vision) - {"pixel_values"})
        form = (tuple(vision["pixel_values"].shape), *(vision[name].numpy().tobytes() for name in others))

        def pixels_of(image: Tensor) -> Tensor:
            try:
                made = self.made(image, self.wording.blank, options)
            except (TypeError, ValueError):  # some take nothing but pictures
                drawn = Image.fromarray(image.round().byte().permute(1, 2, 0).numpy())
                made = self.made(drawn, self.wording.blank, options)
            return made["pixel_values"].float()

        down, across, fill = coordinates(pixels_of, shown.height, shown.width)
        try:
            if form not in self._owners:
                self._owners[form] = self.owned(vision)
            owner, found = self._owners[form]
            if found != tokens:
                raise ValueError(f"the model makes {found} features of {tokens} tokens: model and processor don't fit")
            # Idefics3 and the like take what is 0 everywhere for padding.
            return located(owner, down, across, tokens, 1e-6 if "pixel_attention_mask" in vision and not fill else fill)
        except ValueError as error:
            raise ValueError(
                f"{self.name} can't be explained on an image of {shown.width} x {shown.height} pixels: {error}"
            ) from error

    def _rows(self, out: Any) -> Tensor:
        """Features (tokens, D) of what the encoder gave, those of other depths behind them, and what to make of these again."""
        made, deep = out.pooler_output, out.get("deepstack_features") or []
        if made is None:
            raise ValueError("its class hands out no image features after the projector, which is what is explained")
        listed = not torch.is_tensor(made)
        rows = torch.cat(list(made)) if listed else made.reshape(-1, made.shape[-1])
        other = {name: values for name, values in out.items() if name not in _KNOWN}
        self._form = (
            listed,
            () if listed else made.shape[1:],
            other,
            type(out),
            len(deep),
            bool(deep) and not torch.is_tensor(deep[0]),
        )
        deep = [level if torch.is_tensor(level) else torch.cat(list(level)) for level in deep]
        return torch.cat([rows, *deep], -1)


def _of_image(made: Mapping[str, Any]) -> dict[str, Tensor]:
    """What is the image's of what a processor made."""
    others = ("input_ids", "attention_mask", "labels", "offset_mapping", *KINDS)
    return {name: values for name, values in made.items() if torch.is_tensor(values) and name not in others}


def _alike(views: Sequence[View], done: Collection[int] = ()) -> list[list[int]]:
    """The places in ``views`` of those whose images have the same shape, without those that are done."""
    groups: dict[tuple, list[int]] = {}
    for index, view in enumerate(views):
        if index not in done:
            groups.setdefault(view.shape, []).append(index)
    return list(groups.values())
