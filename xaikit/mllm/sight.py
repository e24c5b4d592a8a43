"""What a class's own processor and vision tower make of an image, and where in it each of its tokens is."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..files.checks import one_line
from .places import Places, coordinates, located, located_in_time, owners, without_mixing
from .view import Medium, Video, pixels_of
from .wording import IMAGE, KINDS, VIDEO, Said, Wording

# Of what an encoder returns, that which isn't handed on as it is.
_KNOWN = ("pooler_output", "last_hidden_state", "hidden_states", "attentions", "deepstack_features")
PATCH = 32  # pixels that rounding to whole patches may add to a side
GRIDS_IN_TIME = ("image_grid_thw", "video_grid_thw")  # by which both towers and language layers place tokens
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
        base = model.base_model
        self.encoders = {"pixel_values": base.get_image_features}
        if hasattr(base, "get_video_features"):
            self.encoders["pixel_values_videos"] = base.get_video_features
        self._taken = {name: set(inspect.signature(encoder).parameters) for name, encoder in self.encoders.items()}
        asked = set(inspect.signature(base.forward).parameters)
        self._kinds = asked & set(KINDS)
        # What language layers ask of images and videos.
        self._shared = asked - set().union(*self._taken.values()) - self._kinds | (asked & set(GRIDS_IN_TIME))
        videos = getattr(model.config, "video_token_id", None)
        self.placeholders = torch.tensor([self.image_token_id, *([] if videos is None else [videos])])
        # What the model reads as images wherever it stands, and an untrained one may write.
        self.unwritable = [
            *self.placeholders.tolist(),
            *(getattr(model.config, "visual_indicator_token_ids", None) or []),
        ]
        self._places: dict[tuple, Places] = {}
        self._owners: dict[tuple, tuple[Tensor, int]] = {}
        self._forms: dict[str, tuple[Any, ...]] = {}

    # what subclasses say otherwise

    def sized(self, image: Medium, scale: float, enlargement: str) -> tuple[Medium, dict[str, Any]]:
        """The image, or the video, that the processor gets at a scale, and its options."""
        if scale == 1:
            return image, {}
        return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC), {}

    def made(self, images: Sequence[Any], said: Said, options: dict[str, Any]) -> dict[str, Any]:
        """What the processor makes of images, videos and a conversation; ``options`` are those of ``sized``."""
        return self.wording.processed(images, said, options)

    def run(self, vision: Mapping[str, Tensor]) -> Any:
        """What the class's own encoder makes of pixels, of one image or video or of several, one after the other."""
        device, dtype, pixels = self.model.device, self.model.dtype, pixels_of(vision)
        moved = {
            name: values.to(device, dtype if values.is_floating_point() else None)
            for name, values in vision.items()
            if name in self._taken[pixels]
        }
        return self.encoders[pixels](**moved, return_dict=True)

    def owned(self, vision: Mapping[str, Tensor]) -> tuple[Tensor, int]:
        """The token that each element of an image's pixels feeds, and how many tokens there are; see ``owners``."""
        name = pixels_of(vision)

        def features(pixels: Tensor) -> Tensor:
            try:
                out = self.run({**vision, name: pixels})
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # whatever a tower raises of what isn't for it
                raise ValueError(
                    f"the model can't read its pixels ({type(error).__name__}: {one_line(error)}): they are too few, or model and"
                    " processor don't fit"
                ) from error
            return self.rows(out, name)

        with without_mixing(self.model.base_model):
            return owners(features, vision[name])

    def native(self, image: Medium) -> Places:
        """The places of an image's tokens at scale 1."""
        return self.seen(image)[1]

    def check_processor(self) -> None:
        """Raise ValueError for a processor that doesn't write the image as the token that the model reads."""
        try:
            ids = self.made([Image.new("RGB", (64, 64))], self.wording.blank(IMAGE), {})["input_ids"]
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:  # which another class's lacks
            raise ValueError(
                f"the processor of {self.name}, a {type(self.processor).__name__}, can't be used as the model's class needs it"
                f" ({type(error).__name__}: {one_line(error)}): they don't belong together"
            ) from error
        if not (ids == self.image_token_id).any():
            raise ValueError(
                f"the processor of {self.name} writes no token {self.image_token_id}, which the model reads as the image's:"
                " they don't belong together"
            )

    # inside

    def within(self, image: Medium) -> Medium:
        """The image, or each frame, shrunk to ``max_pixels``."""
        many = image.width * image.height
        if self.max_pixels is None or many <= self.max_pixels:
            return image
        factor = (self.max_pixels / many) ** 0.5
        return image.resize([max(1, int(side * factor)) for side in image.size], Image.Resampling.BICUBIC)

    def seen(
        self,
        image: Medium,
        said: Said | None = None,
        scale: float = 1.0,
        enlargement: str = "interpolate",
        among: int = 1,
    ) -> tuple[dict[str, Any], Places]:
        """What the processor makes at a scale of an image or a video and a conversation, None for one that says nothing, and the
        places of the image's tokens. among : of how many images it is seen as one, since classes may show less of each then."""
        kind, frames = (VIDEO, len(image.frames)) if isinstance(image, Video) else (IMAGE, 0)
        if frames and getattr(self.processor, "video_processor", None) is None:
            raise ValueError(f"{self.name} takes no video: give its frames as images, each with maps of its own")
        said = said or self.wording.blank(*[kind] * among)
        shown, options = self.sized(image, scale, enlargement)
        what = f"{many([image])} of {image.width} x {image.height} pixels"
        seen, tokens = self._processed([shown] * among, said, options, scale, what)
        if not tokens:
            raise ValueError(
                f"{self.name} writes no token for {'a video' if frames else 'an image'}: give what it can see"
            )
        tokens //= among
        of_all = of_image(seen)
        vision = {name: values[: len(values) // among] for name, values in of_all.items() if len(values) >= among}
        if pixels_of(vision) not in vision:
            raise ValueError(
                f"{self.name} hands out the pixels of {many([image] * among)} as one, so that none can be placed"
            )
        each = frames or getattr(self.processor.image_processor, "temporal_patch_size", 1)
        pixels = vision[pixels_of(vision)].numel() // 3 // each
        if self.max_pixels is not None and pixels > (self.max_pixels**0.5 + PATCH) ** 2:
            raise ValueError(
                f"scale={scale}: {self.name} makes {pixels} pixels of this image, more than max_pixels={self.max_pixels}: use"
                " a smaller scale or a larger max_pixels"
            )
        key = (shown.size, frames, scale, enlargement, among > 1)
        if key not in self._places:
            _remember(self._places, key, self._located(shown, options, vision, tokens, among))
        return vision | {name: seen[name] for name in seen if name not in of_all}, self._places[key]

    def seen_together(
        self, images: Sequence[Medium], said: Said, scale: float, enlargement: str
    ) -> tuple[dict[str, Any], int]:
        """What the processor makes of several images and videos and a conversation, and how many tokens these become."""
        shown, options = zip(*(self.sized(image, scale, enlargement) for image in images), strict=True)
        kinds = {isinstance(image, Video): option for image, option in zip(images, options, strict=True)}
        if any(option != kinds[isinstance(image, Video)] for image, option in zip(images, options, strict=True)):
            raise ValueError(f"scale={scale}: {self.name} takes images of one shape only at this scale; use scale 1")
        whole = {name: value for option in kinds.values() for name, value in option.items()}
        return self._processed(shown, said, whole, scale, many(images))

    def _processed(
        self, shown: Sequence[Medium], said: Said, options: dict[str, Any], scale: float, what: str
    ) -> tuple[dict[str, Any], int]:
        """What the processor makes, and how many image tokens there are; ValueError where it refuses or these are too many."""
        try:
            seen = self.made(shown, said, options)
        except ValueError as error:
            why = str(error).splitlines()[0]  # hints may follow, on what nobody here can set
            raise ValueError(f"the processor of {self.name} refuses {what} at scale {scale:g}: {why}") from error
        ids = seen["input_ids"][0]
        tokens = int(torch.isin(ids, self.placeholders).sum())
        if len(ids) >= self.context_length:
            raise ValueError(
                f"scale={scale}: prompt and image have {len(ids)} tokens, {tokens} of them the image's, but {self.name}"
                f" takes {self.context_length} with the answer; use a smaller scale, such as scales=(1,), or a shorter prompt"
            )
        return seen, tokens

    @torch.no_grad()
    def _located(
        self, shown: Medium, options: dict[str, Any], vision: dict[str, Tensor], tokens: int, among: int
    ) -> Places:
        name, frames = pixels_of(vision), len(shown.frames) if isinstance(shown, Video) else 0
        others = sorted(set(vision) - {name})
        form = (tuple(vision[name].shape), *(vision[other].numpy().tobytes() for other in others))
        said = self.wording.blank(*[VIDEO if frames else IMAGE] * among)

        def processed(image: Tensor) -> Tensor:
            try:
                made = self.made([image] * among, said, options)
            except (TypeError, ValueError):  # some take nothing but pictures
                drawn = [
                    Image.fromarray(one)
                    for one in image.view(-1, *image.shape[-3:]).round().byte().movedim(1, 3).numpy()
                ]
                made = self.made([Video(tuple(drawn)) if frames else drawn[0]] * among, said, options)
            return made[name][: len(made[name]) // among].float()

        down, across, time, fill = coordinates(processed, shown.height, shown.width, frames)
        try:
            if form not in self._owners:
                _remember(self._owners, form, self.owned(vision))
            owner, found = self._owners[form]
            if found != tokens:
                raise ValueError(f"the model makes {found} features of {tokens} tokens: model and processor don't fit")
            # Idefics3 and the like take what is 0 everywhere for padding.
            fill = 1e-6 if "pixel_attention_mask" in vision and not fill else fill
            if time is not None:
                return located_in_time(owner, down, across, time, tokens, fill)
            return located(owner, down, across, tokens, fill)
        except ValueError as error:
            raise ValueError(
                f"{self.name} can't be explained on {'a video' if frames else 'an image'} of {shown.width} x {shown.height}"
                f" pixels: {error}"
            ) from error

    def rows(self, out: Any, pixels: str) -> Tensor:
        """Features (tokens, D) of what the encoder of ``pixels`` gave, those of other depths behind them; what to make of these
        again is kept."""
        made, deep = out.pooler_output, out.get("deepstack_features") or []
        if made is None:
            raise ValueError("its class hands out no image features after the projector, which is what is explained")
        listed = not torch.is_tensor(made)
        rows = torch.cat(list(made)) if listed else made.reshape(-1, made.shape[-1])
        other = {name: values for name, values in out.items() if name not in _KNOWN}
        self._forms[pixels] = (
            listed,
            () if listed else made.shape[1:],
            other,
            type(out),
            len(deep),
            bool(deep) and not torch.is_tensor(deep[0]),
        )
        deep = [level if torch.is_tensor(level) else torch.cat(list(level)) for level in deep]
        return torch.cat([rows, *deep], -1)


def many(media: Sequence[Medium]) -> str:
    """How many images, and how many videos of how many frames.

    Examples
    --------
    >>> from PIL import Image
    >>> from xaikit.mllm.view import Video
    >>> frame = Image.new("RGB", (8, 8))
    >>> many([frame]), many([Video((frame,) * 4), frame, Video((frame,) * 2)])
    ('an image', 'an image and 2 videos of 4 and 2 frames')
    """
    frames = [len(each.frames) for each in media if isinstance(each, Video)]
    images, of_frames = len(media) - len(frames), " and ".join(map(str, frames))
    parts = [f"{images} images" if images > 1 else "an image"] if images else []
    if frames:
        unit = "frame" if frames == [1] else "frames"
        parts.append(f"{f'{len(frames)} videos' if len(frames) > 1 else 'a video'} of {of_frames} {unit}")
    return " and ".join(parts)


def _remember(known: dict, key: tuple, value: Any) -> None:
    """Keep a value, and no more than so many."""
    known[key] = value
    if len(known) > REMEMBERED:
        del known[next(iter(known))]


def of_image(made: Mapping[str, Any]) -> dict[str, Tensor]:
    """What is the image's of what a processor made."""
    others = ("input_ids", "attention_mask", "labels", "offset_mapping", *KINDS)
    return {name: values for name, values in made.items() if torch.is_tensor(values) and name not in others}
