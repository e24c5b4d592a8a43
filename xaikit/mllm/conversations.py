"""Answers: those that a model writes, and those that a user gives, to many images with a prompt each."""

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from ..clip.pairs import as_sequence, labels_of, one_each
from ..files.checks import check_choices, check_whole
from ..files.images import read_image
from .attending import alike_when_watched, watched
from .family import check_distinct
from .memory import Keeps
from .messages import conversations_of, last_words, turns_of
from .model import Mllm
from .passes import Passed, Watching, joined
from .steps import Scaled, keys_of
from .view import Key, Medium, Video, View
from .wording import Said

KEPT = 2**30  # bytes of pixels kept from their check to their batch; those of further samples are made again for it


@torch.no_grad()
def generate(mllm: Mllm, views: Sequence[View], max_new_tokens: int = 64, batch_size: int = 16) -> list[list[int]]:
    """The greedy answer to each view as token ids, without the end token.

    Batches are padded on the left, so that a batch gives what each view alone gives. Raises ValueError for an
    answer that fills the model's context before it ends.

    Examples
    --------
    >>> import xaikit as xk
    >>> mllm, scene = xk.load_mllm(), xk.draw_descriptions(1, seed=1).isel(sample=0)
    >>> view = mllm.family.view(scene.image.values, "describe the picture")
    >>> mllm.tokenizer.decode(xk.mllm.generate(mllm, [view])[0]) == scene.caption.item()
    True
    """
    check_whole(1, max_new_tokens=max_new_tokens, batch_size=batch_size)
    parts = [views[start : start + batch_size] for start in range(0, len(views), batch_size)]
    return [answer for part in parts for answer in written(mllm, part, max_new_tokens)[0]]


@torch.no_grad()
def written(
    mllm: Mllm, views: Sequence[View], max_new_tokens: int, keeps: Collection[Keeps] = ()
) -> tuple[list[list[int]], Passed]:
    """The greedy answers of a batch, and what the model went through as it wrote them, so that no pass is needed for it; zeros for
    the last token of an answer that was cut, whose state nothing reads.

    keeps : what is kept of attention. Watching replaces what computes it by transformers' "sdpa": a model that computes it in
    another way might write other words, so it isn't watched, and takes a pass over what it wrote.
    """
    ends = mllm.model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    each = [view.ids for view in views]
    ids = pad_sequence(each, True, mllm.model.generation_config.pad_token_id, padding_side="left").to(mllm.device)
    real = pad_sequence([torch.ones_like(one) for one in each], True, padding_side="left").to(mllm.device)
    states: list[Tensor] = []
    first = ids.shape[1]
    watching = Watching(keeps, torch.full((len(views), 1), first - 1), mllm.device)  # the prompts' last states write
    watches = bool({"rows", "matrices"} & set(keeps)) and alike_when_watched(mllm.decoder)

    def passed(_, __, out) -> None:
        states.append(out.last_hidden_state)
        watching.passed()

    hook = mllm.model.base_model.register_forward_hook(passed)
    try:
        with watched(mllm.decoder, watching if watches else None):
            made = mllm.model.generate(
                input_ids=ids,
                attention_mask=real,
                max_new_tokens=min(max_new_tokens, mllm.family.context_length - min(map(len, each))),
                suppress_tokens=mllm.family.unwritable,
                **mllm.family.language_inputs(views, ids, mllm.family.encode(views), padded_left=True),
            )
    finally:
        hook.remove()
    answers = []
    for view, row in zip(views, made[:, first:].tolist(), strict=True):
        length = next((index for index, token in enumerate(row) if token in ends), len(row))
        room = mllm.family.context_length - len(view.ids)
        if length > room or (length == room < max_new_tokens and length == len(row)):
            raise ValueError(
                f"the answer hasn't ended after {room} tokens, which with {len(view.ids)} of prompt and image fill the"
                f" {mllm.family.context_length} that {mllm.name} takes; use max_new_tokens={room} or a smaller scale"
            )
        answers.append(row[:length])
    own = [slice(first - len(view.ids), first + len(answer)) for view, answer in zip(views, answers, strict=True)]
    # The state of what was written last isn't computed.
    hidden, rows = F.pad(torch.cat(states, 1), (0, 0, 0, 1)), None
    if watching.rows:
        whole = F.pad(joined(watching.rows, first), (0, 1))
        each = zip(whole, own, map(len, answers), strict=True)
        rows = _stacked([weights[:, :many, place] for weights, place, many in each])
    matrices = []
    while watching.matrices:  # each layer's parts are freed as soon as they are one
        whole = F.pad(joined(watching.matrices.pop(0), first), (0, 1, 0, 1))
        matrices.append(_stacked([weights[place, place] for weights, place in zip(whole, own, strict=True)]))
    return answers, Passed(_stacked([row[place] for row, place in zip(hidden, own, strict=True)]), rows, matrices)


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Tensors as one, those that are smaller padded behind with zeros."""
    out = parts[0].new_zeros(len(parts), *map(max, zip(*(part.shape for part in parts), strict=True)))
    for whole, part in zip(out, parts, strict=True):
        whole[tuple(map(slice, part.shape))] = part
    return out


def answer_ids(mllm: Mllm, text: str) -> list[int]:
    """A user's own answer as ids that continue the assistant's header; ValueError for one the model can't write.

    Examples
    --------
    >>> import xaikit as xk
    >>> mllm = xk.load_mllm()
    >>> mllm.decode(xk.mllm.answer_ids(mllm, "a red ring"))
    [' a', ' red', ' ring']
    """
    return mllm.tokenizer(mllm.family.wording.check(text, "the answer"), add_special_tokens=False).input_ids


class Conversations:
    """Images and prompts, or messages, in any form that ``explain_tokens`` takes, and their answers: checked before any work,
    then in batches.

    ways : the methods; the grids at the scales of each must differ. ``keys`` : the scales of all of them, scale 1 first. errors :
    "raise" stops at the first bad sample; "record" keeps each one's reason in ``reasons`` ("" for a good one) and goes on with the
    others. at_once : how many samples make a batch, of a sample's tokens at each scale and its answer's; ValueError where not
    even one does. keeps : what is kept of attention at scale 1.

    Raises ValueError for bad images, prompts, answers and scales, or if no sample is good; FileNotFoundError for a
    missing image file.
    """

    def __init__(
        self,
        mllm: Mllm,
        images,
        prompts,
        answers,
        ways: Sequence[Scaled],
        errors: str,
        max_new_tokens: int,
        at_once: Callable[[Mapping[Key, int], int], int],
        messages=None,
        keeps: Collection[Keeps] = (),
    ):
        check_choices(errors=(errors, ("raise", "record")))
        self.mllm, self.errors, self._ways, self.keys = mllm, errors, ways, keys_of(ways)
        self.max_new_tokens, self._at_once, self._keeps = max_new_tokens, at_once, keeps
        if images is None and messages is None:
            raise ValueError("images=None: what a word of an answer owes to an image needs one")
        labels = labels_of(images)
        self._images = None if images is None else images if _lists(images) else as_sequence(images)
        n = None if images is None else len(self._images)
        self._talks = None if messages is None else conversations_of(messages, n)
        n = len(self._talks) if n is None else n
        self._images = [None] * n if images is None else self._images
        self.labels = np.arange(n) if labels is None else labels
        self.prompts = one_each(prompts, n, "prompt", labels) if messages is None else [""] * n
        self.answers = one_each(answers, n, "answer", labels) if answers is not None else [None] * n
        self.reasons, self.headers = [""] * n, [""] * n
        self._kept: dict[int, list[View]] = {}
        self._room = KEPT
        self._groups: dict[tuple, list[int]] = {}
        self._most: dict[int, int] = {}
        for index in range(n):
            self._check(index)
        self.check_any()

    @property
    def one_image(self) -> bool:
        """Whether there were prompts, of one image each, and no messages."""
        return self._talks is None

    def check_any(self) -> None:
        """Raise ValueError, with the first one's reason, where no sample is good."""
        if all(self.reasons):
            raise ValueError(f"no sample can be explained; the first one: {self.reasons[0]}")

    def batches(
        self, progress: str = ""
    ) -> Iterator[tuple[list[int], dict[Key, list[View]], list[list[int]], Passed | None]]:
        """Samples whose grids agree, so many at once: their indices, their views at each scale, and their answers' ids,
        those that weren't given written by the model, with what it went through at scale 1 where all were; without samples that
        are refused."""
        parts = []
        for group in self._groups.values():
            most = min(self._most[index] for index in group)
            parts += [group[start : start + most] for start in range(0, len(group), most)]
        for part in tqdm(parts, disable=not progress, desc=progress):
            views = [self._kept.pop(index, None) or self._views(index) for index in part]
            with self.mllm.family.encoding_once():
                answers, made = self._answered(part, views, self.max_new_tokens)
                good = [row for row, ids in enumerate(answers) if ids]
                by_key = {key: [views[row][place] for row in good] for place, key in enumerate(self.keys)}
                made = made if made is None or len(good) == len(part) else made.of(good)
                yield [part[row] for row in good], by_key, [answers[row] for row in good], made

    def warn_of_cut(self, ended: Sequence[bool], reasoning: Sequence[bool]) -> None:
        """Say which answers, of good samples, didn't end by themselves, and whether they were still ``reasoning``."""
        each = zip(self.labels, ended, reasoning, self.reasons, strict=True)
        cut = [(str(label), thinks) for label, own, thinks, bad in each if not own and not bad]
        if cut:
            who = f"sample {cut[0][0]}" if len(cut) == 1 else f"{len(cut)} samples, the first of them {cut[0][0]},"
            still = ", within its reasoning" if any(thinks for _, thinks in cut) else ""
            warnings.warn(
                f"the answer to {who} was cut after {self.max_new_tokens} tokens{still}: raise max_new_tokens",
                stacklevel=4,
            )

    def refuse(self, index: int, error: ValueError | FileNotFoundError) -> None:
        """Raise this error with its sample named, or keep it as the sample's reason."""
        named = self._talks is None and f"image {index}" in str(error)
        named = str(error) if named else f"sample {index}: {error}"
        if self.errors == "raise":
            raise type(error)(named) from error
        self.reasons[index] = named

    def _answered(
        self, part: list[int], views: list[list[View]], max_new_tokens: int
    ) -> tuple[list[list[int]], Passed | None]:
        """The answers' ids, none for samples that are refused; and what is known of them where the model wrote all at once."""
        answers = [self._given(index) for index in part]
        open_ = [row for row, answer in enumerate(answers) if answer is None]
        made, known = None, None
        if open_:
            try:
                made, known = written(self.mllm, [views[row][0] for row in open_], max_new_tokens, self._keeps)
            except ValueError:  # one of them can't be answered: which one shows when each is written alone
                pass
        for place, row in enumerate(open_):
            answers[row] = []
            try:
                answer = made[place] if made else generate(self.mllm, views[row][:1], max_new_tokens)[0]
                if not answer:
                    raise ValueError("the model ends its answer before the first word; there is nothing to explain")
                for view in views[row]:
                    self.mllm.family.check_fits(view, answer)
                answers[row] = answer
            except ValueError as error:
                self.refuse(part[row], error)
        return answers, known if len(open_) == len(part) else None

    def _given(self, index: int) -> list[int] | None:
        return None if self.answers[index] is None else answer_ids(self.mllm, self.answers[index])

    def _asked(self, index: int) -> tuple[list[Medium], Said]:
        """The images and videos of a sample, and what is said about them."""
        wording = self.mllm.family.wording
        if self._talks is None:
            return [read_image(self._images[index], index)], wording.asked(self.prompts[index])
        turns, pictures = turns_of(self._talks[index], self._images[index])
        turns = tuple(
            (role, tuple(wording.check(part, f"message {place}") if isinstance(part, str) else part for part in parts))
            for place, (role, parts) in enumerate(turns)
        )
        self.prompts[index] = last_words(turns)
        media = [each if isinstance(each, Video) else read_image(each, place) for place, each in enumerate(pictures)]
        return media, wording.said(turns)

    def _views(self, index: int) -> list[View]:
        """The views at all scales, the native one first."""
        images, said = self._asked(index)
        self.headers[index] = said.header
        found = {key: self.mllm.family.view(images, said, *key) for key in self.keys}
        for way in self._ways:
            check_distinct([found[key] for key in way.keys])
        return list(found.values())

    def _check(self, index: int) -> None:
        try:
            views, given = self._views(index), self._given(index)
            for view in views if given is not None else ():
                self.mllm.family.check_fits(view, given)
            written = self.max_new_tokens if given is None else len(given)
            tokens = {key: len(view.ids) + written for key, view in zip(self.keys, views, strict=True)}
            self._most[index] = self._at_once(tokens, written)
        except (ValueError, FileNotFoundError) as error:
            self.refuse(index, error)
            return
        self._groups.setdefault(tuple(view.grids for view in views), []).append(index)
        pixels = sum(each.nbytes for view in views for seen in view.images for each in seen.vision.values())
        if pixels <= self._room:
            self._kept[index] = views
            self._room -= pixels


def _lists(images) -> bool:
    """Whether these are several images a sample."""
    return isinstance(images, list | tuple) and any(isinstance(each, list | tuple) for each in images)
