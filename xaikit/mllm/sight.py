"""What a class's own processor and vision tower make of an image, and where in it each of its tokens is."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from .places import Places, coordinates, located, owners, without_mixing
from .wording import KINDS, Said, Wording

# Of what an encoder returns, that which isn't handed on as it is.
_KNOWN = ("pooler_output", "last_hidden_state", "hidden_states", "attentions", "deepstack_features")
PATCH = 32  # pixels that rounding to whole patches may add to a side
REMEMBERED = 64  # sizes of images whose places are kept


class Sight:
    """The processor and the vision tower of a class that takes encoded images (``mm_encoder_outputs``).

    max_pixels : the most pixels of an image that the model gets, None for no limit but the processor's. chat : options of the
    chat template.
    """

    enlargements: tuple[str, ...] = ("interpolate",)
    grows = False  # whether the processor's limits are lifted for scales above 1

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        name: str,
        max_pixels: int | None = None,
        chat: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.processor, self.name, self.max_pixels = model, processor, name, max_pixels
        self.wording = Wording(processor, model.config.image_token_id, name, chat)
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

    # what subclasses say otherwise

    def sized(self, image: Image.Image, scale: float, enlargement: str) -> tuple[Image.Image, dict[str, Any]]:
        """The image that the processor gets at a scale, and its options."""
        if scale == 1:
            return image, {}
        return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC), {}

    def made(self, images: Sequence[Any], said: Said, options: dict[str, Any]) -> dict[str, Any]:
        """What the processor makes of images and a conversation; ``options`` are those of ``sized``."""
        return self.wording.processed(images, said, options)

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
                lambda pixels: self.rows(self.run({**vision, "pixel_values": pixels})), vision["pixel_values"]
            )

    def native(self, image: Image.Image) -> Places:
        """The places of an image's tokens at scale 1."""
        return self.seen(image, self.wording.blank)[1]

    def check_processor(self) -> None:
        """Raise ValueError for a processor that doesn't write the image as the token that the model reads."""
        ids = self.made([Image.new("RGB", (64, 64))], self.wording.blank, {})["input_ids"]
        if not (ids == self.image_token_id).any():
            raise ValueError(
                f"the processor of {self.name} writes no token {self.image_token_id}, which the model reads as the image's:"
                " they don't belong together"
            )

    # inside

    def within(self, image: Image.Image) -> Image.Image:
        """The image, shrunk to ``max_pixels``."""
        many = image.width * image.height
        if self.max_pixels is None or many <= self.max_pixels:
            return image
        factor = (self.max_pixels / many) ** 0.5
        return image.resize([max(1, int(side * factor)) for side in image.size], Image.Resampling.BICUBIC)

    def seen(
        self, image: Image.Image, said: Said, scale: float = 1.0, enlargement: str = "interpolate"
    ) -> tuple[dict[str, Any], Places]:
        """What the processor makes of an image and a conversation at a scale, and the places of the image's tokens."""
        shown, options = self.sized(image, scale, enlargement)
        size = f"an image of {image.width} x {image.height} pixels"
        seen, tokens = self._processed([shown], said, options, scale, size)
        vision = of_image(seen)
        many = vision["pixel_values"].numel() // 3 // getattr(self.processor.image_processor, "temporal_patch_size", 1)
        if self.max_pixels is not None and many > (self.max_pixels**0.5 + PATCH) ** 2:
            raise ValueError(
                f"scale={scale}: {self.name} makes {many} pixels of this image, more than max_pixels={self.max_pixels}: use"
                " a smaller scale or a larger max_pixels"
            )
        key = (shown.size, scale, enlargement)
        if key not in self._places:
            _remember(self._places, key, self._located(shown, options, vision, tokens))
        return seen, self._places[key]

    def seen_together(
        self, images: Sequence[Image.Image], said: Said, scale: float, enlargement: str, tokens: int
    ) -> dict[str, Any]:
        """What the processor makes of several images and a conversation, if it makes as many tokens of these as of each alone."""
        shown, options = zip(*(self.sized(image, scale, enlargement) for image in images), strict=True)
        if any(option != options[0] for option in options):
            raise ValueError(f"scale={scale}: {self.name} takes images of one shape only at this scale; use scale 1")
        seen, found = self._processed(shown, said, options[0], scale, f"{len(images)} images")
        if found != tokens:
            raise ValueError(
                f"{self.name} makes {found} tokens of {len(images)} images together, but {tokens} of each alone, so that"
                " their places can't be told: give one image"
            )
        return seen

    def _processed(
        self, shown: Sequence[Image.Image], said: Said, options: dict[str, Any], scale: float, what: str
    ) -> tuple[dict[str, Any], int]:
        """What the processor makes, and how many image tokens there are; ValueError where it refuses or these are too many."""
        try:
            seen = self.made(shown, said, options)
        except ValueError as error:
            raise ValueError(f"{what} at scale {scale} is refused by the processor of {self.name}: {error}") from error
        ids = seen["input_ids"][0]
        tokens = int((ids == self.image_token_id).sum())
        if len(ids) >= self.context_length:
            raise ValueError(
                f"scale={scale}: prompt and image have {len(ids)} tokens, {tokens} of them the image's, but {self.name}"
                f" takes {self.context_length} with the answer; use a smaller scale, such as scales=(1,), or a shorter prompt"
            )
        return seen, tokens

    @torch.no_grad()
    def _located(self, shown: Image.Image, options: dict[str, Any], vision: dict[str, Tensor], tokens: int) -> Places:
        others = sorted(set(vision) - {"pixel_values"})
        form = (tuple(vision["pixel_values"].shape), *(vision[name].numpy().tobytes() for name in others))

        def pixels_of(image: Tensor) -> Tensor:
            try:
                made = self.made([image], self.wording.blank, options)
            except (TypeError, ValueError):  # some take nothing but pictures
                drawn = Image.fromarray(image.round().byte().permute(1, 2, 0).numpy())
                made = self.made([drawn], self.wording.blank, options)
            return made["pixel_values"].float()

        down, across, fill = coordinates(pixels_of, shown.height, shown.width)
        try:
            if form not in self._owners:
                _remember(self._owners, form, self.owned(vision))
            owner, found = self._owners[form]
            if found != tokens:
                raise ValueError(f"the model makes {found} features of {tokens} tokens: model and processor don't fit")
            # Idefics3 and the like take what is 0 everywhere for padding.
            return located(owner, down, across, tokens, 1e-6 if "pixel_attention_mask" in vision and not fill else fill)
        except ValueError as error:
            raise ValueError(
                f"{self.name} can't be explained on an image of {shown.width} x {shown.height} pixels: {error}"
            ) from error

    def rows(self, out: Any) -> Tensor:
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


def _remember(known: dict, key: tuple, value: Any) -> None:
    """Keep a value, and no more than so many."""
    known[key] = value
    if len(known) > REMEMBERED:
        del known[next(iter(known))]


def of_image(made: Mapping[str, Any]) -> dict[str, Tensor]:
    """What is the image's of what a processor made."""
    others = ("input_ids", "attention_mask", "labels", "offset_mapping", *KINDS)
    return {name: values for name, values in made.items() if torch.is_tensor(values) and name not in others}
