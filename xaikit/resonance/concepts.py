"""The concept hierarchy of a resonance trajectory: what clusters of patches oscillate alike, band by band; and the planted
hierarchy of a scene, how far concepts agree with it, and a control that must be beaten.

Source: Semantic Resonance Maps, algorithm 1. What the paper leaves open (how patterns are scaled, how many clusters,
which words name one, which of two concepts a link prefers) is chosen here and stated where it is done.
"""

import numpy as np
import torch
import xarray as xr
from scipy.special import rel_entr
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score, silhouette_score

from ..files.checks import check_choices, check_number, check_whole
from ..files.store import annotate_from
from ..measures.localisation import coverage
from ..measures.words import content_words, whole_words
from .spectra import FLAT, check_trajectory, fourier

STRUCTURE = 0.25  # silhouette below which clusters are "no substantial structure" (Kaufman and Rousseeuw 1990)
QUIET = 1 / 3  # a token's amplitude, as a share of the loudest token's, below which it is not scaled up further
SCALES = ("linear", "log")
FAINT = 0.01  # share of a token's size below which a logarithm tells nothing apart (-40 decibel)
CONTRAST = 0.1  # the least contrast between inside and outside of a concept with which a word names it
ALIKE = 0.9  # share of the best word's contrast from which a second word names the concept as well
LEVELS = ("scene", "object", "part")
COVERED = 0.25  # share of a patch from which on objects take it from the background


def concept_hierarchy(
    trajectory: xr.DataArray,
    bands: int = 3,
    largest: int = 5,
    seed: int = 0,
    links: float = 0.0,
    scale: str = "linear",
) -> xr.Dataset:
    """Concepts of each frequency band and the links between those of neighbouring bands, for each sample.

    trajectory : (sample, time, token, row, col), with the coordinate ``token_text`` (sample, token).
    bands : how many equal bands the frequencies 0 < f <= 0.5 (cycles an iteration) are split into, low to high.
    largest : the most concepts a band may have. seed : of k-means.
    links : normalised mutual information (0 to 1) below which a concept is left without a link.
    scale : of the patterns: "linear", the paper's letter, where a few patches of large amplitude easily make a concept of
        their own; or "log", the logarithm of the amplitudes (no less than a hundredth of the token's size).

    Pattern of a patch: the amplitudes over tokens and frequencies of the band (line taken off, Hann window). A token's maps
    are divided by their root mean square over patches and frequencies, so that no token outweighs the others, but by no less
    than a third of the loudest token's, or the noise of silent tokens would count like a signal.
    Concepts: k-means of the patterns, as many clusters from 2 to ``largest`` as have the largest mean silhouette; a single
    concept where that is below 0.25 or the band is flat. Strongest first within a band.
    Label: the content word whose amplitude has the largest contrast (inside - outside) / (inside + outside) of the
    concept (the sum no less than a third of the loudest word's peak), with a second one that has 90 % of it; empty
    where no contrast reaches 0.1.
    Link: to the concept of the band below that shares the most information with it, I(mask; mask) in nats, among those
    that it overlaps more than chance would: information alone can't tell a mask from its complement. Ties go to
    the larger overlap. So every concept above the lowest band has one link down, and links form trees.

    Returns over ``concept`` sample, band, mask, label, energy (share of the sample's over all frequencies above 0, tokens and
    patches) and silhouette (of the band's clusters, NaN for one), and over ``link`` link_source in the lower band, link_target
    in the upper one, mutual_information and normalised_information. Raises ValueError for a wrong trajectory or option.

    Examples
    --------
    >>> course = xk.resonance.resonate(clip, scenes.image[:1], scenes.caption[:1]).trajectory
    >>> xk.resonance.concept_hierarchy(course)["mask"].dims
    ('concept', 'row', 'col')
    """
    check_whole(1, bands=bands)
    check_whole(2, largest=largest)
    check_whole(0, seed=seed)
    check_choices(scale=(scale, SCALES))
    check_number(0, 1, "normalised mutual information", links=links)
    values, words = _checked(trajectory, bands)
    count = len(values)
    amplitude, band_of = _amplitudes(values, bands)
    power = amplitude**2  # (sample, frequency, token, patch)
    total = power.sum((1, 2, 3))
    named = content_words(words)

    labels = np.empty((count, bands, values.shape[-1]), int)
    parts = []
    for index in range(count):
        for band in range(bands):
            inside_band = band_of == band
            found, silhouette = clusters(_scaled(amplitude[index, inside_band], scale), largest, seed)
            energy = power[index, inside_band].sum((0, 1))
            labels[index, band] = found = _strongest_first(found, energy)
            masks = found == np.arange(found.max() + 1)[:, None]
            tokens = np.sqrt(power[index, inside_band].sum(0))
            part = {
                "sample": np.repeat(trajectory.sample.values[index], len(masks)),
                "band": np.repeat(band, len(masks)),
                "mask": masks.reshape(-1, *trajectory.shape[-2:]),
                "label": _names(masks, tokens, words[index], named[index]),
                "energy": masks @ energy / (total[index] or 1),
                "silhouette": np.repeat(silhouette, len(masks)),
            }
            parts.append(part)
    out = xr.Dataset(coords={name: trajectory[name].values for name in ("row", "col")})
    for name in parts[0]:
        values = np.concatenate([part[name] for part in parts])
        out[name] = ("concept", "row", "col")[: values.ndim], values
    out = out.assign({name: ("link", each) for name, each in _links(labels, links).items()})
    parameters = {"bands": bands, "largest": largest, "seed": seed, "links": links, "scale": scale}
    return annotate_from(trajectory, out, "concepts", **parameters)


def clusters(pattern: np.ndarray, largest: int, seed: int) -> tuple[np.ndarray, float]:
    """Cluster (places,) of each row of a pattern (places, width) by k-means, and the mean silhouette.

    As many clusters, from 2 to ``largest``, as have the largest mean silhouette; one cluster (and NaN) where it stays
    below 0.25. Source: Rousseeuw, Silhouettes, 1987.
    """
    single = np.zeros(len(pattern), int)
    peak = np.abs(pattern).max(initial=0)
    if peak == 0:
        return single, np.nan
    pattern = pattern / peak
    distinct = len(np.unique(pattern.round(5), axis=0))
    best, most = single, STRUCTURE
    for count in range(2, min(largest, distinct, len(pattern) - 1) + 1):
        found = KMeans(count, n_init=4, random_state=seed).fit_predict(pattern)
        score = silhouette_score(pattern, found)
        if score > most + 1e-9:  # on a tie the fewer
            best, most = found, score
    return best, (float(most) if best is not single else np.nan)


def mutual_information(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """I(first; second) in nats of boolean masks (..., places), broadcast against each other.

    Sum of p(a, b) log(p(a, b) / (p(a) p(b))) over both masks' two values.
    """
    places = first.shape[-1]
    one, other, both = first.sum(-1), second.sum(-1), (first & second).sum(-1)
    joint = np.stack([both, one - both, other - both, places - one - other + both], -1)
    chance = np.stack(
        [one * other, one * (places - other), (places - one) * other, (places - one) * (places - other)], -1
    )
    return np.maximum(rel_entr(joint / places, chance / places**2).sum(-1), 0)


def concept_labels(concepts: xr.Dataset) -> xr.DataArray:
    """Which concept each patch belongs to (sample, band, row, col), as the concept's number in the dataset."""
    samples, sample = np.unique(concepts.sample.values, return_inverse=True)
    number = np.arange(concepts.sizes["concept"])[:, None, None]
    labels = np.full((len(samples), int(concepts.band.max()) + 1, *concepts["mask"].shape[1:]), -1)
    np.maximum.at(labels, (sample, concepts.band.values), np.where(concepts["mask"].values, number, -1))
    coords = {"sample": samples, "row": concepts.row, "col": concepts.col}
    return xr.DataArray(labels, coords, ("sample", "band", "row", "col"), "concept")


def _checked(trajectory: xr.DataArray, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Values (sample, time, token, patch) and the whole words (sample, token)."""
    check_trajectory(trajectory)
    if "token_text" not in trajectory.coords:
        raise ValueError("the trajectory lacks the coordinate token_text (sample, token), which names its concepts")
    if len(np.unique(trajectory.sample.values)) < trajectory.sizes["sample"]:
        raise ValueError("the trajectory names a sample twice: concepts are told apart by their sample")
    if trajectory.sizes["time"] < 2 * bands:
        raise ValueError(
            f"the trajectory has {trajectory.sizes['time']} points in time: {bands} bands need at least {2 * bands}"
        )
    values = trajectory.values.reshape(*trajectory.shape[:3], -1).astype(float)
    places = ("token_text", *({"token_word"} & {*trajectory.coords}))
    return values, whole_words(*(trajectory[name].transpose("sample", "token").values for name in places)).astype(str)


def _amplitudes(values: np.ndarray, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Amplitudes (sample, frequency, token, patch) at the frequencies above 0, and the band (frequency,) of each.

    Bands are (low, high], by whole numbers, so that a frequency on a boundary does not fall by rounding. Amplitudes of
    the size of float32's rounding are set to 0.
    """
    length = values.shape[1]
    amplitude = fourier(torch.from_numpy(values), 1, "linear", "hann")[:, 1:].abs().numpy()
    amplitude[amplitude <= FLAT * np.abs(values).max((1, 2, 3), keepdims=True)] = 0
    return amplitude, -(-2 * bands * np.arange(1, amplitude.shape[1] + 1) // length) - 1


def _scaled(amplitude: np.ndarray, scale: str) -> np.ndarray:
    """Patterns (patch, token * frequency) of amplitudes (frequency, token, patch), each token at a like size."""
    size = np.sqrt((amplitude**2).mean((0, 2)))
    scaled = amplitude / np.maximum(size, QUIET * size.max() or 1)[:, None]
    if scale == "log":
        scaled = np.log(np.maximum(scaled, FAINT) / FAINT)
    return scaled.reshape(-1, amplitude.shape[-1]).T


def _strongest_first(labels: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """The labels renumbered by falling mean energy (patch,) of their patches."""
    mean = np.bincount(labels, energy) / np.bincount(labels)
    return np.argsort(np.argsort(-mean, kind="stable"))[labels]


def _names(masks: np.ndarray, tokens: np.ndarray, words: np.ndarray, named: np.ndarray) -> list[str]:
    """The words of each mask (concept, patch), from the tokens' amplitudes (token, patch)."""
    size = masks.sum(1)[:, None]
    inside = masks @ tokens.T / size
    outside = ~masks @ tokens.T / np.maximum(masks.shape[1] - size, 1)
    least = QUIET * tokens.max() or 1  # so that a token that hardly moves names nothing
    contrast = np.where(named & (size < masks.shape[1]), (inside - outside) / np.maximum(inside + outside, least), -1)
    order = np.argsort(-contrast, axis=1, kind="stable")[:, :2]
    labels = []
    for best, of in zip(order, contrast, strict=True):
        kept = sorted(token for token in best if of[token] >= max(CONTRAST, ALIKE * of[best[0]]))
        labels.append(" ".join(dict.fromkeys(words[kept])))
    return labels


def _links(labels: np.ndarray, least: float) -> dict[str, np.ndarray]:
    """The variables (link,) from labels (sample, band, patch); concepts are numbered by sample, band and label."""
    count = labels.max(-1) + 1  # (sample, band)
    first = np.concatenate([[0], count.cumsum()[:-1]]).reshape(count.shape)
    masks = labels[:, :, None] == np.arange(count.max())[:, None]  # (sample, band, concept, patch)
    lower, upper = masks[:, :-1, :, None], masks[:, 1:, None]
    shared = mutual_information(lower, upper)
    overlap, places = (lower & upper).sum(-1), labels.shape[-1]
    by_chance = lower.sum(-1) * upper.sum(-1)
    # Zero information, as with a band of one concept, leaves the overlap alone to decide.
    rank = np.where(overlap * places >= by_chance, shared.round(9), -1) + 1e-12 * overlap
    rank = np.where(lower.any(-1), rank, -2)
    parent = rank.argmax(2)  # (sample, band - 1, upper concept)
    information = np.take_along_axis(shared, parent[:, :, None], 2)[:, :, 0]
    own = mutual_information(masks, masks)  # a mask's entropy
    parents = np.take_along_axis(own[:, :-1], parent, 2)
    entropies = own[:, 1:] + parents
    normalised = np.where(entropies > 0, 2 * information / np.where(entropies > 0, entropies, 1), 0)
    kept = upper.any(-1)[:, :, 0] & (normalised >= least)
    sample, band, concept = np.nonzero(kept)
    return {
        "link_source": first[sample, band] + parent[kept],
        "link_target": first[sample, band + 1] + concept,
        "mutual_information": information[kept],
        "normalised_information": normalised[kept],
    }


def planted_hierarchy(
    scenes: xr.Dataset, grid: tuple[int, int], covered: tuple[float, float] = (1.0, 1.0)
) -> xr.DataArray:
    """What each patch shows, at three levels: int labels (sample, level, row, col), 0 for the background.

    scene: an object (1) or the background. object: which object, k + 1. part: its upper (2 k + 1) or lower half
    (2 k + 2), split at the mean row of its visible pixels. A patch belongs to objects where these cover at least a
    quarter of it together (so that but one object in a thousand owns no patch of 8 x 8), then to the one that covers the
    most, then to its half that covers the most, so levels nest.

    scenes : with ``object_mask``. covered : the part of the image's height and width that the patches cover.

    Examples
    --------
    >>> xk.resonance.planted_hierarchy(scenes, (8, 8)).shape
    (4, 3, 8, 8)
    """
    check_whole(1, rows=grid[0], cols=grid[1])
    mask = scenes.object_mask.values
    height = np.arange(mask.shape[2])
    middle = (mask.sum(3) * height).sum(-1) / np.maximum(mask.sum((2, 3)), 1)
    upper = mask & (height < middle[..., None])[..., None]
    whole, half = (coverage(pixels, grid, covered) for pixels in (mask, upper))
    there = whole.sum(1) >= COVERED - 1e-9
    owner = whole.argmax(1)
    above = np.take_along_axis(half, owner[:, None], 1)[:, 0]
    lower = 2 * above < np.take_along_axis(whole, owner[:, None], 1)[:, 0]
    levels = np.stack([np.ones_like(owner), owner + 1, 2 * owner + 1 + lower], 1) * there[:, None]
    coords = {"sample": scenes.sample.values, "level": list(LEVELS)}
    return xr.DataArray(levels, coords, ("sample", "level", "row", "col"), "planted")


def agreement(concepts: xr.Dataset | xr.DataArray, planted: xr.DataArray) -> xr.DataArray:
    """Adjusted mutual information (sample, band, level) of concepts with the planted hierarchy.

    concepts : what ``concept_hierarchy`` gives, or int labels (sample, band, row, col). planted : int labels (sample,
    level, row, col) that have the concepts' samples. 1: the same partition of the patches; 0: no more alike than
    chance, as for a single concept. Compare at a band chosen beforehand: the best of several bands favours what has them.
    Source: Vinh, Epps and Bailey, 2010, by scikit-learn. Raises ValueError where samples or patches differ.

    Examples
    --------
    >>> planted = xk.resonance.planted_hierarchy(scenes, (8, 8))
    >>> xk.resonance.agreement(planted.rename(level="band"), planted).sel(level="object").values[0].round(2)
    array([0.85, 1.  , 0.93])
    """
    labels = concept_labels(concepts) if isinstance(concepts, xr.Dataset) else concepts
    missing = sorted(set(labels.sample.values.tolist()) - set(planted.sample.values.tolist()))
    if missing:
        raise ValueError(f"the planted hierarchy lacks the samples {missing} of the concepts")
    if labels.shape[2:] != planted.shape[2:]:
        raise ValueError(
            f"the concepts are on {labels.shape[2:]} patches, the planted hierarchy on {planted.shape[2:]}"
        )
    truth = planted.sel(sample=labels.sample.values)
    scores = [
        [[adjusted_mutual_info_score(level.ravel(), band.ravel()) for level in of] for band in one]
        for one, of in zip(labels.values, truth.values, strict=True)
    ]
    about = {"long_name": "adjusted mutual information", "units": "1", "score_direction": "higher is better"}
    coords = {"sample": labels.sample.values, "level": planted.level.values}
    return xr.DataArray(np.clip(scores, -1, 1), coords, ("sample", "band", "level"), "agreement", about)


def cluster_patches(
    features: xr.DataArray, grid: tuple[int, int], bands: int = 3, largest: int = 5, seed: int = 0
) -> xr.DataArray:
    """The control without any recursion: clusters of the patches' own features (sample, patch, width).

    Chosen as ``concept_hierarchy`` does, k-means with as many clusters as have the largest silhouette. Features have
    no frequency, so each of the ``bands`` gets the same labels: int (sample, band, row, col), patches in reading order.

    Examples
    --------
    >>> features = xk.resonance.patch_features(clip, scenes.image, scenes.caption)
    >>> xk.resonance.cluster_patches(features, (8, 8)).shape
    (4, 3, 8, 8)
    """
    check_whole(1, bands=bands, rows=grid[0], cols=grid[1])
    check_whole(2, largest=largest)
    check_whole(0, seed=seed)
    if features.ndim != 3 or features.shape[1] != grid[0] * grid[1]:
        raise ValueError(
            f"the features have shape {features.shape}: (sample, patch, width) with {grid[0] * grid[1]} patches is needed"
        )
    labels = np.stack([clusters(one, largest, seed)[0] for one in features.values]).reshape(-1, 1, *grid)
    coords = {"sample": features[features.dims[0]].values}
    return xr.DataArray(np.repeat(labels, bands, 1), coords, ("sample", "band", "row", "col"), "concept")
