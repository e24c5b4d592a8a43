"""``explain_tokens``: the model's answers, explained token by token, as one dataset of the stage ``mllm``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor

from ..files import store
from ..files.checks import Choices, check_number, check_whole, labelled
from .conversations import Conversations
from .memory import Sizes, samples_at_once
from .messages import ANSWER, segments
from .methods import REGISTRY
from .model import Mllm
from .numerics import resized
from .passes import Batch, NotFinite, Passed, check_finite, read
from .steps import PRESETS, SOURCES, AtScales, Scaled, Steps, check_grid, keys_of, needed_rankings, steps_of
from .view import NATIVE, Key, View

PROMPT = "describe the picture"
OF_SCALES = ("scales", "enlargement")  # options of every method


def token_methods() -> dict[str, dict[str, object]]:
    """What ``explain_tokens`` can call: for each method its options with what it takes where they aren't given, and its source.
    The first five, the lens family, know the same options; one that its other choices leave no use for is refused.

    Examples
    --------
    >>> token_methods()["grad_cam"]["options"]
    {'scales': (1.0,), 'enlargement': 'interpolate', 'target': 'logit', 'signed': False}
    """
    lens, every = asdict(PRESETS["lens"]), REGISTRY.all()
    scaled = {option: lens[option] for option in OF_SCALES}
    family = {name: {"options": asdict(steps), "source": SOURCES[name]} for name, steps in PRESETS.items()}
    return family | {name: {"options": scaled | one.options, "source": one.source} for name, one in every.items()}


TOKEN_METHODS = tuple(token_methods())  # the names of those that ship


def explain_tokens(
    mllm: Mllm,
    images=None,
    prompts: str | Sequence[str] = PROMPT,
    method: Choices | Mapping[str, Steps] = "msea+arc",
    answer: str | Sequence[str] | None = None,
    max_new_tokens: int = 64,
    batch_size: int = 16,
    progress: bool = False,
    errors: str = "raise",
    memory: float | None = None,
    messages: Sequence[Any] | None = None,
    **options: Any,
) -> xr.Dataset:
    """Explain every token of the answers to images and prompts.

    Parameters
    ----------
    mllm : a model of ``load_mllm``.
    images : n images as uint8 arrays (H, W, 3), PIL images, paths, or an ``image`` DataArray.
    prompts : n prompts, or one for all.
    method : one of ``token_methods()``; or several, as ``explain_all_tokens`` takes them, and then the maps have the
        dimension ``explainer``.
    answer : None for the model's own greedy answers; or one text for all, or n of them, to be explained as if the model
        had written them.
    max_new_tokens : the longest answer that is written.
    batch_size : the most samples computed at once, fewer where they have many tokens; doesn't change the result.
    progress : show a progress bar.
    errors : "raise" stops at the first bad sample; "record" gives it maps of zeros, its reason in the coordinate
        ``error``, and goes on as long as there is a good one.
    memory : gigabytes that explaining may take beside the model, about, by which batches are chosen; None for 8192 tokens.
    messages : instead of prompts a conversation in the chat format, or n of them: messages of the roles system, user and assistant,
        each with a text or a list of ``{"type": "text", "text": ...}``, ``{"type": "image", "image": ...}`` and, where the class
        takes videos, ``{"type": "video", "video": frames, "fps": 2}``, of which all frames are seen; the user's last. Images
        without a picture are those of ``images``, in order, which then has a list for each conversation.
    **options : of the method; of the lens family (``PRESETS``) those of ``Steps`` (``scales``, ``weighting``, ``tam_compat`` ...);
        of every method ``scales`` and ``enlargement``, over which the maps are averaged.

    Returns
    -------
    Dataset with ``token_heat`` (sample, answer_token, row, col), zero after an answer's end; ``relevance`` and, where the
    method compares rankings, ``rank_overlap`` (sample, answer_token, context_token), the context being the prompt's tokens
    and then the answer's; ``log_probability`` (sample, scale, answer_token), with a scale's ``enlargement``; the
    ``prompt``, the ``answer`` and both's tokens; whether the answer ``ended`` before max_new_tokens; ``grid``
    (sample, axis), the rows and columns that are the sample's own, and ``region`` (sample, edge), the part of the image that
    these cover, as fractions of its height and width (a centre crop is smaller than 0 to 1). The coordinate ``segment``
    (sample, answer_token) tells "reasoning" from "answer". With ``messages`` the maps, ``grid`` and ``region`` have the dimension
    ``image``, in the order of the conversation, of a video one for the frames that a token sees together: ``first_frame`` and
    ``last_frame`` (sample, image), -1 for images; ``measures.words.image_shares`` compares them. The context is what user and
    assistant said, and ``prompt`` what the user said last.

    On tiny-llava the lens family finds a word's own object in a quarter of all cases, attention in most (notebook 05).

    Raises ValueError, in one sentence, for an unknown method or option, or one without use; for bad images, prompts,
    answers and scales; and for a model whose numbers aren't finite. FileNotFoundError for a missing image file. Warns of
    answers that were cut after ``max_new_tokens``.

    Examples
    --------
    >>> import xaikit as xk
    >>> scenes = xk.draw_descriptions(2, seed=1)
    >>> answers = xk.explain_tokens(xk.load_mllm(), scenes.image, method="tam", filter=5)
    >>> (answers.answer == scenes.caption).all().item(), answers.token_heat.dims
    (True, ('sample', 'answer_token', 'row', 'col'))

    >>> asked = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is this"}]}
    >>> xk.explain_tokens(xk.load_mllm(), scenes.image, messages=[asked], method="attention").token_heat.dims
    ('sample', 'image', 'answer_token', 'row', 'col')
    """
    given = {"answer": answer, "max_new_tokens": max_new_tokens, "batch_size": batch_size, "progress": progress}
    given |= {"errors": errors, "memory": memory, "messages": messages}
    if not isinstance(method, str):
        if options:
            raise ValueError(f"options {', '.join(options)} are of no one method: give {{label: (name, options)}}")
        return explain_all_tokens(mllm, images, prompts, method, **given)
    found = explain_all_tokens(mllm, images, prompts, {method: (method, options)}, **given).isel(explainer=0, drop=True)
    found.token_heat.attrs |= {"explainer": method, "source": token_methods()[method]["source"]}
    return found


def explain_all_tokens(
    mllm: Mllm,
    images=None,
    prompts: str | Sequence[str] = PROMPT,
    methods: Choices | Mapping[str, Steps] | None = None,
    answer: str | Sequence[str] | None = None,
    max_new_tokens: int = 64,
    batch_size: int = 16,
    progress: bool = False,
    errors: str = "raise",
    grid: tuple[int, int] | None = None,
    memory: float | None = None,
    messages: Sequence[Any] | None = None,
) -> xr.Dataset:
    """Explain the same answers by many methods, or by one method in many ways.

    An image is encoded once a scale for all of them. At scale 1 the model's own writing serves the lens family and all methods that
    read attention; at other scales, and for answers that are given, one pass over prompt and answer does. Gradients take one pass
    a scale more, of the same encoded images, since writing keeps no graph.

    methods : names, None for all ``token_methods()``; or a mapping from a label to a name, to a name and options, such as
    ``{"two scales": ("msea", {"scales": (1, 2)})}``, or to ``Steps``. grid : (rows, cols) that all maps are drawn to,
    bilinearly; None for the finest among the methods, sample by sample. The rest as in ``explain_tokens``.

    Returns the dataset of ``explain_tokens`` with the dimension ``explainer`` in ``token_heat`` and ``rank_overlap``.
    Raises as ``explain_tokens``.

    Examples
    --------
    >>> import xaikit as xk
    >>> image = xk.draw_descriptions(1, seed=1).image
    >>> methods = {"tam": "tam", "two scales": ("msea", {"scales": (1, 2)})}
    >>> xk.explain_all_tokens(xk.load_mllm(), image, methods=methods).explainer.values.tolist()
    ['tam', 'two scales']
    """
    if not isinstance(mllm, Mllm):
        raise ValueError(f"mllm is a {type(mllm).__name__}: a model of load_mllm is needed")
    chosen = _chosen(mllm, [*token_methods()] if methods is None else methods)
    if grid is not None:
        check_grid(grid, "give (rows, cols), or None for the finest among the methods")
        grid = tuple(map(int, grid))
    check_whole(1, batch_size=batch_size, max_new_tokens=max_new_tokens)
    steps = [method for method in chosen.values() if isinstance(method, Steps)]
    for k in needed_rankings(steps).values():
        check_whole(1, len(mllm.output_weight), k=k)
    if messages is not None and not (isinstance(prompts, str) and prompts == PROMPT):
        raise ValueError(f"prompts={prompts!r} and messages: the messages hold the prompts; give one of the two")
    if messages is not None and any(step.released for step in steps):
        raise ValueError("tam_compat=True: the released function knows no conversations; give images and prompts")
    if memory is not None:
        check_number(0, open_low=True, memory=memory)
    ways, sizes = list(chosen.values()), Sizes.of(mllm.model)
    keeps = {way.keeps for way in ways}
    kept_at = {key for way in ways if way.keeps != "nothing" for key in way.keys}

    def at_once(tokens: Mapping[Key, int], written: int) -> int:
        kept = max([many for key, many in tokens.items() if key in kept_at], default=tokens[NATIVE])
        return samples_at_once(sizes, [kept, *tokens.values()], written, keeps, batch_size, memory)

    watched = {way.keeps for way in ways if NATIVE in way.keys}
    talks = Conversations(mllm, images, prompts, answer, ways, errors, max_new_tokens, at_once, messages, watched)
    parts = []
    for index, views, answers, written in talks.batches("tokens" if progress else ""):
        while index:
            try:
                found = _explained(mllm, chosen, views, answers, grid, written)
            except NotFinite as error:  # the others are explained without these
                for row in error.rows:
                    talks.refuse(index[row], ValueError(str(error)))
                kept = [row for row in range(len(index)) if row not in error.rows]
                index, answers, *seen = ([of_all[row] for row in kept] for of_all in (index, answers, *views.values()))
                views, written = dict(zip(views, seen, strict=True)), None if written is None else written.of(kept)
                continue
            given = (talks.answers[i] is not None for i in index)
            ended = [own or len(ids) < max_new_tokens for own, ids in zip(given, answers, strict=True)]
            parts.append(found | {"index": index, "answers": answers, "ended": np.array(ended)})
            break
    talks.check_any()
    found = _dataset(mllm, talks, parts, {label: way.described for label, way in chosen.items()})
    talks.warn_of_cut(found.ended.values, (found.segment.values != ANSWER).all(1))
    return found


def _chosen(mllm: Mllm, methods: Choices | Mapping[str, Steps]) -> dict[str, Scaled]:
    """The methods by label: steps as they are given, or those of a name with its options."""
    given = methods.items() if isinstance(methods, Mapping) else ()
    own = {label: way for label, way in given if isinstance(way, Steps)}
    chosen, registered = {}, REGISTRY.all()
    for label, name, options in labelled(dict(methods) | dict.fromkeys(own, "lens") if own else methods):
        if label in own:
            chosen[label] = own[label]
        elif name in PRESETS:
            chosen[label] = steps_of(name, options)
        elif name in registered:
            own = {option: value for option, value in options.items() if option not in OF_SCALES}
            registered[name].check(own)
            if registered[name].needs:
                registered[name].needs(mllm)
            of_scales = {option: options[option] for option in OF_SCALES if option in options}
            chosen[label] = AtScales(method=registered[name], options=own, **of_scales)
        else:
            raise ValueError(f"unknown method {name!r}: choose from {', '.join((*PRESETS, *registered))}")
    return chosen


def _explained(
    mllm: Mllm,
    chosen: dict[str, Scaled],
    views: dict[Key, list[View]],
    answers: list[list[int]],
    grid: tuple[int, int] | None,
    written: Passed | None = None,
) -> dict[str, Any]:
    """Everything about one batch, its answers' tokens gathered, as arrays; NotFinite where that can't be said."""
    steps = [method for method in chosen.values() if isinstance(method, Steps)]
    read_at = {key: views[key] for key in keys_of(steps)}
    others = {label: way for label, way in chosen.items() if isinstance(way, AtScales)}
    found: dict[str, dict[Key, Tensor]] = {label: {} for label in others}
    known = {} if written is None else {NATIVE: written.hidden}
    for key in views:
        here = {label: way for label, way in others.items() if key in way.keys}
        batch = Batch(views[key], [way.keeps for way in here.values()])
        if key == NATIVE and written is not None and written.holds(batch.keeps):
            batch.made["attended"] = written
        for graph in (False, True):  # which takes most memory, so that what others kept is gone by then
            for label, way in here.items():
                if (way.keeps == "graph") == graph:
                    found[label][key] = way.at_one_scale(mllm, batch, answers)
            if "attended" in batch.made:
                batch.made["attended"].matrices.clear()
                known.setdefault(key, batch.made["attended"].hidden)
    reading = read(mllm, read_at, answers, needed_rankings(steps), known)
    states = reading.states
    _, real = states.answer_places
    seen = real[..., None] & states.real[:, None]
    unknown = torch.full(seen.shape, torch.nan, device=seen.device)
    by_image, overlaps = [], []  # of each method
    for label, method in chosen.items():
        overlap = unknown
        if isinstance(method, Steps):
            heat = [states.of_answers(each.float()) for each in method.maps(reading, mllm)]
            if method.compares:
                overlap = states.of_answers(method.rank_overlap(reading).float()).where(seen, unknown)
        else:
            heat = method.maps(found[label], views)
        check_finite(torch.stack([each.isfinite().flatten(1).all(1) for each in heat]).all(0), f"maps by {label}")
        by_image.append([each * real[..., None, None] for each in heat])
        overlaps.append(overlap)
    maps, grids = [], []
    for heat in zip(*by_image, strict=True):
        grids.append(grid or tuple(max((each.shape[-2:] for each in heat), key=lambda shape: shape.numel())))
        maps.append(torch.stack([resized(each, grids[-1]) for each in heat], 1))
    most = [max(sides) for sides in zip(*grids, strict=True)]
    padded = [F.pad(each, (0, most[1] - each.shape[-1], 0, most[0] - each.shape[-2])) for each in maps]
    unread = torch.full_like(reading.likelihood[NATIVE], torch.nan)  # at scales that only other methods take
    likely = torch.stack([states.of_answers(reading.likelihood.get(key, unread)) for key in views], 1)
    found = {
        "token_heat": torch.stack(padded, 2),
        "relevance": states.of_answers(reading.relevance) * seen,
        "rank_overlap": torch.stack(overlaps, 1),
        "log_probability": likely * real[:, None],
    }
    return {name: values.cpu().numpy() for name, values in found.items()} | {
        "grid": np.tile(grids, (len(answers), 1, 1)),
        "region": np.array(
            [[seen.places.region for seen in view.images for _ in seen.places.frames] for view in views[NATIVE]]
        ),
        "frames": np.array([[pair for seen in view.images for pair in seen.places.frames] for view in views[NATIVE]]),
        "context": [ids[real].tolist() for ids, real in zip(states.ids.cpu(), states.real.cpu(), strict=True)],
    }


def _dataset(
    mllm: Mllm, talks: Conversations, parts: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]
) -> xr.Dataset:
    """The batches together, padded; zeros, or what stands for nothing, for samples that none of them holds."""
    n = len(talks.labels)

    def whole(name: str, empty: Any = 0) -> np.ndarray:
        """The values of all batches, each in the first places along its dimensions."""
        shape = np.max([part[name].shape[1:] for part in parts], axis=0).astype(int)
        out = np.full((n, *shape), empty, parts[0][name].dtype)
        for part in parts:
            out[(part["index"], *map(slice, part[name].shape[1:]))] = part[name]
        return out

    overlap = whole("rank_overlap", np.nan)
    tokens, context = overlap.shape[2:]
    answer, answer_id = np.full(n, "", object), np.full((n, tokens), -1)
    answer_text, context_text = np.full((n, tokens), "", object), np.full((n, context), "", object)
    segment = np.full((n, tokens), "", object)
    for part in parts:
        for sample, ids, seen in zip(part["index"], part["answers"], part["context"], strict=True):
            answer[sample], answer_id[sample, : len(ids)] = mllm.tokenizer.decode(ids).strip(), ids
            answer_text[sample, : len(ids)], context_text[sample, : len(seen)] = mllm.decode(ids), mllm.decode(seen)
            segment[sample, : len(ids)] = segments(mllm.decode(ids), talks.headers[sample])
    found = xr.Dataset(
        {
            "token_heat": (("sample", "explainer", "image", "answer_token", "row", "col"), whole("token_heat")),
            "relevance": (("sample", "answer_token", "context_token"), whole("relevance")),
            "rank_overlap": (("sample", "explainer", "answer_token", "context_token"), overlap),
            "log_probability": (("sample", "scale", "answer_token"), whole("log_probability")),
            "prompt": ("sample", np.array(talks.prompts, str)),
            "answer": ("sample", answer.astype(str)),
            "ended": ("sample", whole("ended")),
            "answer_text": (("sample", "answer_token"), answer_text.astype(str)),
            "answer_id": (("sample", "answer_token"), answer_id),
            "context_text": (("sample", "context_token"), context_text.astype(str)),
            "grid": (("sample", "image", "axis"), whole("grid")),
            "region": (("sample", "image", "edge"), whole("region", (0.0, 0.0, 1.0, 1.0))),
        },
        coords={
            "sample": talks.labels, "explainer": list(parameters), "axis": ["row", "col"],
            "scale": [scale for scale, _ in talks.keys], "enlargement": ("scale", [way for _, way in talks.keys]),
            "edge": ["top", "left", "bottom", "right"], "segment": (("sample", "answer_token"), segment.astype(str)),
        },
    )  # fmt: skip
    if talks.errors == "record":
        found = found.assign_coords(error=("sample", np.array(talks.reasons, str)))
    stage = "conversations"
    if talks.one_image:
        found, stage = found.isel(image=0), "mllm"
    elif (frames := whole("frames", -1)).max() >= 0:
        found = found.assign_coords({f"{end}_frame": (("sample", "image"), frames[..., place]) for place, end in
                                     enumerate(("first", "last"))})  # fmt: skip
    return store.annotate(found, stage, made_by=mllm, parameters=dict(parameters))
