"""n images with a prompt each, and maybe an answer: checked before any work, then handed out in batches."""

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr
from tqdm import tqdm

from ..clip.pairs import as_sequence, one_each
from ..files.checks import check_choices
from ..files.images import read_image
from .family import View, distinct_views
from .generation import answer_ids, check_fits, generate
from .lens import Key
from .model import Mllm


class Conversations:
    """Images and prompts in any form that ``explain_tokens`` takes.

    keys : the scales and enlargements that each image will be seen at. errors : "raise" stops at the first bad sample;
    "record" keeps each one's reason in ``reasons`` ("" for a good one) and goes on with the ``good`` ones.

    Raises ValueError for bad images, prompts, answers and scales, or if no sample is good; FileNotFoundError for a
    missing image file.
    """

    def __init__(
        self, mllm: Mllm, images, prompts, answers, keys: Sequence[Key], errors: str = "raise", batch_size: int = 16
    ):
        check_choices(errors=(errors, ("raise", "record")))
        self.mllm, self.keys, self.batch_size, self.errors = mllm, list(keys), batch_size, errors
        named = isinstance(images, xr.DataArray) and "sample" in images.coords
        labels = images.sample.values if named else None
        self._images = as_sequence(images)
        n = len(self._images)
        self.labels = np.arange(n) if labels is None else labels
        self.prompts = one_each(prompts, n, "prompt")
        self._answers = one_each(answers, n, "answer") if answers is not None else [None] * n
        self.reasons = [""] * n
        self._grids: dict[int, tuple] = {}
        self._kept: dict[int, list[View]] = {}
        for index in range(n):
            self._check(index)
        self.good = [index for index in range(n) if not self.reasons[index]]
        if not self.good:
            raise ValueError(f"no sample can be explained; the first one: {self.reasons[0]}")

    def __len__(self) -> int:
        return len(self._images)

    def batches(self, progress: str = "") -> Iterator[tuple[list[int], dict[Key, list[View]], list[list[int] | None]]]:
        """Samples whose grids agree, so many at once: their indices, their views at each scale, and their answers' ids,
        None for those that the model is to write."""
        groups: dict[tuple, list[int]] = {}
        for index in self.good:
            groups.setdefault(self._grids[index], []).append(index)
        parts = [
            group[start : start + self.batch_size]
            for group in groups.values()
            for start in range(0, len(group), self.batch_size)
        ]
        for part in tqdm(parts, disable=not progress, desc=progress):
            views = [self._kept.get(index) or self._views(index) for index in part]
            answers = [
                None if self._answers[index] is None else answer_ids(self.mllm, self._answers[index]) for index in part
            ]
            yield part, dict(zip(self.keys, map(list, zip(*views, strict=True)), strict=True)), answers

    def answered(
        self, index: Sequence[int], views: dict[Key, list[View]], given: Sequence[list[int] | None], max_new_tokens: int
    ) -> list[list[int]]:
        """The answers' ids of a batch, those that weren't given written by the model; none for samples that are refused."""
        native = next(iter(views.values()))
        answers = list(given)
        asked = [row for row, answer in enumerate(given) if answer is None]
        try:
            written = generate(self.mllm, [native[row] for row in asked], max_new_tokens, max(1, len(asked)))
        except ValueError:  # one of them can't be answered: which one shows when each is asked alone
            written = None
        for place, row in enumerate(asked):
            answers[row] = []
            try:
                answer = written[place] if written else generate(self.mllm, [native[row]], max_new_tokens)[0]
                if not answer:
                    raise ValueError("the model ends its answer before the first word; there is nothing to explain")
                for at_scale in views.values():
                    check_fits(self.mllm, at_scale[row], answer)
            except ValueError as error:
                self.refuse(index[row], error)
                continue
            answers[row] = answer
        return answers

    def refuse(self, index: int, error: ValueError | FileNotFoundError) -> None:
        """Raise this error with its sample named, or keep it as the sample's reason."""
        named = str(error) if f"image {index}" in str(error) else f"sample {index}: {error}"
        if self.errors == "raise":
            raise type(error)(named) from error
        self.reasons[index] = named

    def _views(self, index: int) -> list[View]:
        image = read_image(self._images[index], index)
        by_way: dict[str, list[float]] = {}
        for scale, enlargement in self.keys[1:]:
            by_way.setdefault(enlargement, []).append(scale)
        found = {}
        for enlargement, scales in (by_way or {"interpolate": []}).items():
            views = distinct_views(self.mllm, image, self.prompts[index], (1.0, *scales), enlargement)
            found |= {(1.0, "interpolate"): views[0]}
            found |= {(scale, enlargement): view for scale, view in zip(scales, views[1:], strict=True)}
        return [found[key] for key in self.keys]

    def _check(self, index: int) -> None:
        try:
            views = self._views(index)
            if self._answers[index] is not None:
                answer = answer_ids(self.mllm, self._answers[index])
                for view in views:
                    check_fits(self.mllm, view, answer)
        except (ValueError, FileNotFoundError) as error:
            self.refuse(index, error)
            return
        self._grids[index] = tuple(view.grid for view in views)
        if len(self) <= self.batch_size:  # else they are made again for their batch, since pixels take much memory
            self._kept[index] = views
