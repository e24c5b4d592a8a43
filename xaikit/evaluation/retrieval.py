"""Retrieval: recall@1 of the model itself on planted scenes, and as the hottest words or patches go or come: among scenes at
once, or in parts over a whole dataset, whose embeddings are ranked all together (table 3 of Grad-ECLIP and of MMEL)."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import torch
import xarray as xr
from scipy.sparse import csr_array
from torch import Tensor
from tqdm import tqdm

from ..clip.model import Clip
from ..clip.pairs import labels_of, one_each
from ..clip.perturbation import encoded
from ..clip.score import embed_images, embed_texts
from ..clip.towers import tower
from ..explainers.registry import SIDES, Chosen
from ..explainers.sources import Plan, maps_of, protocol, results
from ..files.checks import check_choices, check_whole
from ..files.schema import HIGHER, LOWER, NEITHER
from ..files.store import annotate, provenance
from ..measures.intervals import mean_interval
from ..measures.maps import checked
from ..samples.captions import article
from ..samples.source import Source
from ..samples.worlds.layout import COLOURS
from .confidence import TIE
from .faithfulness import check_steps, deletion_insertion, removal_fill
from .metrics import score_variable

WAYS = ("deletion", "insertion")
Columns = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]  # of a protocol's table, and curves where it has any
QUERIES = 256  # ranked at once: memory is that times the gallery
AT_ONCE = 64_000_000  # numbers read at once, 256 MB: more than one step of it only where samples are few


def recall_at_1(clip: Clip, scenes: xr.Dataset, batch_size: int = 128) -> dict[str, float]:
    """Share of images that rank their own caption first among all captions ("image_to_text"), and of captions that
    rank their own image first ("text_to_image"), as ``found_first`` counts."""
    texts, images = embed_texts(clip, scenes.caption), embed_images(clip, scenes.image, batch_size)
    to_image, to_text = found_first(texts, images, scenes.caption.values, np.arange(len(images)))
    return {"image_to_text": float(to_text.mean()), "text_to_image": float(to_image.mean())}


def paired_similarity(clip: Clip, images, texts, batch_size: int = 128) -> np.ndarray:
    """Cosine (n,) of each image with its own text."""
    seen = embed_images(clip, images, batch_size)
    return (seen * embed_texts(clip, one_each(texts, len(seen), labels=labels_of(images)))).sum(-1).numpy()


def colour_choice(clip: Clip, scenes: xr.Dataset, batch_size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """For scenes with a one-object caption: its colour (n,), and the colour (n,) of the eight whose caption is
    nearest to the image."""
    captions = [str(caption) for caption in scenes.caption.values]
    own = np.array([next((c for c in COLOURS if c in text.split()), "") for text in captions])
    if (own == "").any():
        raise ValueError(
            f"the caption {captions[int((own == '').argmax())]!r} names no colour: scenes whose captions do are needed"
        )
    texts = [[_recoloured(text, mine, c) for c in COLOURS] for text, mine in zip(captions, own, strict=True)]
    scores = (embed_texts(clip, texts) @ embed_images(clip, scenes.image, batch_size).unsqueeze(-1)).squeeze(-1)
    return own, np.array(COLOURS)[scores.argmax(1).numpy()]


def _recoloured(text: str, old: str, new: str) -> str:
    words = text.split()
    place = words.index(old)
    words[place] = new
    if place and words[place - 1] in ("a", "an"):
        words[place - 1] = article(new)
    return " ".join(words)


def found_first(texts: Tensor, images: Tensor, caption: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each text finds its image first, (n,), and each image its text, (m,): 1, 0, or a share among ties.

    texts (n, width) and images (m, width), unit embeddings; caption (n,), the texts in words, and image (n,), the place
    of each text's own image among the m. A text is true of every image that has a caption of the same words, so texts
    alike count as each other's. Among ties the share of right ones counts.
    """
    kinds, kind = np.unique(np.asarray(caption).astype(str), return_inverse=True)
    ones = np.ones(len(kind), np.int32)
    true_of = csr_array((ones, (kind.ravel(), image)), shape=(len(kinds), len(images)))[kind.ravel()]
    return _hits(texts, images, true_of), _hits(images, texts, csr_array(true_of.T))


def _hits(queries: Tensor, gallery: Tensor, right: csr_array) -> np.ndarray:
    shares = []
    for start in range(0, len(queries), QUERIES):
        part = slice(start, start + QUERIES)
        cosine = queries[part] @ gallery.T
        nearest = cosine >= cosine.amax(1, keepdim=True) - TIE
        found = nearest & torch.from_numpy(right[part].toarray() > 0).to(nearest.device)
        shares.append((found.sum(1) / nearest.sum(1)).double().cpu())
    return torch.cat(shares).numpy()


@torch.no_grad()
def retrieval_faithfulness(
    clip: Clip,
    heat: xr.DataArray,
    scenes: xr.Dataset,
    steps: int = 8,
    fill: str | None = None,
    batch_size: int = 256,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Recall@1 of retrieval among the scenes while the hottest words, or patches, go or come.

    At each share of words (of patches, for maps of the image) all n texts (images) are perturbed alike, each in the
    order of its own heat, and searched among or with the n intact images (texts). Image retrieval (IR): a text finds its
    image when no other image is nearer. Text retrieval (TR): an image finds its text. Scenes with the same caption
    count as each other's; among ties (within 1e-6; all prompts are alike once all words are gone) the share of
    right ones counts.

    heat : (sample, [explainer,] token) or (sample, [explainer,] row, col), as ``explain`` gives. steps : equal steps of
    the share. fill : as in ``deletion_insertion``.

    Returns a dataset of the ``evaluation`` schema with, for each of deletion and insertion and for "ir" and "tr",
    ``ir_deletion_curve`` (explainer, step) and ``ir_deletion_auc`` (explainer), its area by the trapezoid rule, with the
    ``_low`` and ``_high`` end of its 95 % interval over what is searched for (among the same scenes).
    Raises ValueError for an unknown fill, impossible steps or maps of another number of samples. Memory is bounded by
    the embeddings of the versions of one explainer.
    Source: table 3 of Grad-ECLIP and of MMEL, there on the 5000 image test split of COCO with all captions.

    Examples
    --------
    >>> import xaikit as xk
    >>> clip, scenes = xk.load_clip("tiny-clip"), xk.draw_scenes(2, seed=0)
    >>> words = xk.explain("grad_eclip", clip, scenes.image, scenes.caption, of="text")
    >>> retrieval_faithfulness(clip, words, scenes, steps=2).ir_deletion_curve.shape
    (1, 3)
    """
    heat = checked(heat, scenes)
    of = "text" if "token" in heat.dims else "image"
    fill = removal_fill(fill, of)
    pixels, tokens = clip.pixels(scenes.image), clip.tokens(scenes.caption).to(clip.device)
    intact = _intact(clip, pixels, tokens, of, batch_size)
    curves, areas, shares = [], [], np.linspace(0, 1, steps + 1)
    for explainer in tqdm(range(heat.shape[1]), disable=not progress, desc="retrieval"):
        one = heat.values[:, explainer : explainer + 1]
        changed = perturbed_embeddings(clip, one, pixels, tokens, of, steps, fill, batch_size, seed)[:, 0]
        for version in changed.unbind(1):
            hits = _hits_by_step(version.unbind(1), intact, of, scenes.caption.values, np.arange(len(tokens)))
            curves.append([each.mean(0) for each in hits])
            areas.append([mean_interval(np.trapezoid(each, shares), limits=(0.0, 1.0)) for each in hits])
    curves = np.array(curves).reshape(-1, 2, 2, steps + 1)  # explainer, way, search, step
    areas = np.array(areas).reshape(-1, 2, 2, 3)
    out = xr.Dataset({"fraction": ("step", shares)}, {"explainer": heat.explainer.values})
    for column, (name, search) in enumerate((("ir", "image"), ("tr", "text"))):
        for row, (way, better) in enumerate(zip(WAYS, (LOWER, HIGHER), strict=True)):
            curve, meaning = curves[:, row, column], f"recall@1 of {search} retrieval, {way}"
            out[f"{name}_{way}_curve"] = score_variable(["explainer", "step"], curve, meaning, better)
            for place, end in enumerate(("", "_low", "_high")):
                about = f"{end[1:]} end of the 95 % interval of the area: {meaning}" if end else meaning
                area = areas[:, row, column, place]
                out[f"{name}_{way}_auc{end}"] = score_variable(["explainer"], area, about, NEITHER if end else better)
    parameters = {"steps": steps, "fill": fill, "seed": seed, "of": of}
    return annotate(out, "evaluation", clip, parameters=parameters)


def perturbed_embeddings(clip: Clip, heat: np.ndarray, *given) -> Tensor:
    """Unit embeddings (n, explainers, 2, steps + 1, width), on the CPU, as the hottest words or patches go, and come.

    given : as ``deletion_insertion`` takes it. Both ends, the whole input and the bare fill, are encoded once for all
    explainers.
    """
    _, *both = deletion_insertion(clip, heat, *given, score=lambda embedding, sample: embedding)
    return torch.from_numpy(np.stack(both, 2))


def _intact(clip: Clip, pixels: Tensor, tokens: Tensor, of: str, batch_size: int) -> Tensor:
    """Embeddings of the side that isn't perturbed, on the CPU."""
    encode, inputs = (clip.encode_image, pixels) if of == "text" else (clip.embed_text, tokens)
    return encoded(encode, inputs, batch_size).cpu()


def _hits_by_step(
    versions: Iterable[Tensor], intact: Tensor, of: str, caption: np.ndarray, image: np.ndarray
) -> list[np.ndarray]:
    """What ``found_first`` says at each step, (n, steps) for texts and (m, steps) for the m different of the n images."""
    _, first, place = np.unique(image, return_index=True, return_inverse=True)
    hits = []
    for version in versions:
        texts, images = (version, intact) if of == "text" else (intact, version)
        hits.append(found_first(texts, images[first], caption, place))
    return [np.stack(each, -1) for each in zip(*hits, strict=True)]


@protocol(stage="embeddings")
def retrieval(
    clip: Clip,
    source: Source,
    batch_size: int,
    seed: int,
    *,
    side: str = "text",
    steps: int = 8,
    fill: str | None = None,
) -> Plan:
    """What retrieval under deletion and insertion needs, as in table 3 of Grad-ECLIP and of MMEL, in parts under ``folder``.

    Parts hold embeddings, since what is nearest is known only among all samples; ``measured`` ranks them.

    source : images with captions, with ``image_id`` where several show the same image, such as COCO.
    side : "text" perturbs the captions, as the papers do; "image" the images, each by the map of its first caption, the
        only one that then counts.
    steps : equal steps of the share of words, or patches. fill : what becomes of them, None for "removed" words and the
        "mean" colour.

    Returns ``version`` (sample, explainer, way, step, width), the perturbed side from whole to bare and back, and
    ``other`` (sample, width), the intact one, with ``caption`` and ``image_id``.
    """
    check_choices(side=(side, SIDES))
    fill = removal_fill(fill, side)
    check_whole(1, steps=steps)
    if side == "image":
        check_steps(steps, int(np.prod(tower(clip, "image").grid)))

    def measure(good: xr.Dataset, chosen: list[Chosen]) -> xr.Dataset:
        if side == "image" and "image_id" in good:
            good = good.isel(sample=np.sort(np.unique(good.image_id.values, return_index=True)[1]))
        pixels, tokens = clip.pixels(good.image), clip.tokens(good.caption).to(clip.device)
        heat, finite = maps_of(chosen, clip, pixels, tokens, side, batch_size)
        version = perturbed_embeddings(clip, heat, pixels, tokens, side, steps, fill, batch_size, seed)
        known = {name: good[name].values for name in ("caption", "image_id") if name in good}
        return results(
            good, chosen, {"way": list(WAYS), "step": np.linspace(0, 1, steps + 1)}, **known,
            finite=finite.astype(float),
            version=(("sample", "explainer", "way", "step", "width"), version.numpy()),
            other=(("sample", "width"), _intact(clip, pixels, tokens, side, batch_size).numpy()),
        )  # fmt: skip

    return Plan(side, measure, {"side": side, "steps": steps, "fill": fill, "seed": seed})


def retrieval_columns(ds: xr.Dataset, progress: bool = False) -> Columns:
    """The area of each sample and method (sample, explainer), and the recall (explainer, step), of both ways and searches.

    Samples whose map isn't finite are left out of that method's searches. IR: a caption finds its image among the
    different ones. TR: an image finds any of its captions. An area is of an image, at its first caption, of IR the mean over its
    captions.
    """
    side, shape = provenance(ds)["made_with"]["options"]["side"], (ds.sizes["sample"], ds.sizes["explainer"])
    columns = [f"{way} {search}" for way in ds.way.values for search in ("IR", "TR")]
    areas = {name: np.full(shape, np.nan) for name in columns}
    curves = {name: np.full((shape[1], ds.sizes["step"]), np.nan) for name in columns}
    usable, shares = ds.finite.values == 1, ds.step.values
    other, caption = ds.other.values, ds.caption.values.astype(str)
    image_id = ds.image_id.values if "image_id" in ds else np.arange(shape[0])
    each = list(itertools.product(range(shape[1]), enumerate(ds.way.values)))
    for explainer, (row, way) in tqdm(each, disable=not progress, desc="retrieval"):
        rows = np.flatnonzero(usable[:, explainer])
        if not len(rows):
            continue
        if side == "image":
            rows = np.sort(rows[np.unique(image_id[rows], return_index=True)[1]])
        versions = _versions(ds.version[:, explainer, row], rows)
        found = _hits_by_step(versions, torch.from_numpy(other[rows]), side, caption[rows], image_id[rows])
        _, first, place = np.unique(image_id[rows], return_index=True, return_inverse=True)
        for search, hits in zip(("IR", "TR"), found, strict=True):
            area = np.trapezoid(hits, shares)
            if search == "IR":  # captions of one image aren't independent of one another
                area = np.bincount(place, area) / np.bincount(place)
            areas[f"{way} {search}"][rows[first], explainer] = area
            curves[f"{way} {search}"][explainer] = hits.mean(0)
    return areas, curves


def _versions(version: xr.DataArray, rows: np.ndarray) -> Iterator[Tensor]:
    """The embeddings (rows, width) of each step of (sample, step, width), several steps read together."""
    size = max(1, AT_ONCE // (version.sizes["sample"] * version.sizes["width"]))
    for start in range(0, version.sizes["step"], size):
        part = version[:, start : start + size].values
        yield from (torch.from_numpy(part[rows, step]) for step in range(part.shape[1]))
