"""The concept hierarchy finds what was planted, and nothing in noise."""

import networkx as nx
import numpy as np
import pytest
import xarray as xr
from refusals import refused
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

import xaikit as xk
from xaikit.plots.concepts import graph
from xaikit.resonance.concepts import (
    agreement,
    cluster_patches,
    concept_hierarchy,
    concept_labels,
    mutual_information,
    planted_hierarchy,
)

WORDS = ["a", "blue", "ring", "below", "pink", "square"]
TIME = 21
FIRST, SECOND = (slice(1, 3), slice(1, 3)), (slice(4, 8), slice(5, 8))  # patches of both objects


def scene_of_two():
    """One scene whose two objects fill whole patches of 8 x 8 pixels."""
    mask = np.zeros((1, 2, 64, 64), bool)
    mask[0, 0, 8:24, 8:24] = mask[0, 1, 32:64, 40:64] = True
    return xr.Dataset({"object_mask": (("sample", "object", "y", "x"), mask)}, {"sample": [7]})


def wave(cycles, phase=0.4):
    return np.cos(2 * np.pi * cycles * np.arange(TIME) / TIME + phase)[:, None, None]


def as_trajectory(values, words=WORDS, samples=None):
    words = np.tile(words, (len(values), 1))
    samples = np.arange(len(values)) if samples is None else samples
    coords = {"token_text": (("sample", "token"), words), "sample": samples}
    return xr.DataArray(values.astype("float32"), coords, ("sample", "time", "token", "row", "col"))


@pytest.fixture(scope="module")
def planted_trajectory():
    """The low band tells objects from background, the middle one the two objects, the high one their halves."""
    first, second, upper = np.zeros((3, 8, 8))
    first[FIRST] = second[SECOND] = 1
    upper[1], upper[4:6] = 1, 1
    both = first + second
    values = np.zeros((1, TIME, len(WORDS), 8, 8))
    values[0, :, 0] = wave(2) * 2 * both  # an article, which moves the most and must name nothing
    for token in range(1, 6):
        values[0, :, token] = wave(2, token) * (0.3 + 0.2 * both)
    values[0, :, 3] = wave(2) * (0.1 + both)
    values[0, :, 2] += wave(5) * first
    values[0, :, 5] += wave(5, 1) * second
    halves = (first * upper, first * (1 - upper), second * upper, second * (1 - upper))
    for token, half in zip((1, 2, 4, 5), halves, strict=True):
        values[0, :, token] += wave(9, 2) * half
    trend = 5 + 3 * np.arange(TIME)[:, None, None, None] * np.linspace(0, 1, 8)
    # Without noise a window's leakage into a neighbouring band would be a perfect pattern, however faint.
    values += 0.05 * np.random.default_rng(0).normal(size=values.shape)
    return as_trajectory(values + trend, samples=[7])


@pytest.fixture(scope="module")
def concepts(planted_trajectory):
    return concept_hierarchy(planted_trajectory)


@pytest.fixture(scope="module")
def noise():
    return as_trajectory(np.random.default_rng(1).normal(size=(12, TIME, len(WORDS), 8, 8)))


def test_planted_masks_bands_and_labels_are_found(concepts):
    planted = planted_hierarchy(scene_of_two(), (8, 8)).isel(sample=0)
    parts = dict(enumerate(WORDS[1:3] + WORDS[4:], 1))
    named = {"scene": {1: "below"}, "object": {1: "ring", 2: "square"}, "part": parts}
    for band, (level, words) in enumerate(named.items()):
        there = concepts.isel(concept=concepts.band == band)
        labels = planted.sel(level=level).values
        for mask, label in zip(there["mask"].values, there.label.values, strict=True):
            inside = np.unique(labels[mask])
            assert len(inside) == 1 and (mask == (labels == inside)).all()
            assert label == words.get(inside[0], "")
        assert there.sizes["concept"] == len(words) + 1
        assert (there.silhouette > 0.5).all()


def test_agreement_is_one_where_the_level_was_planted(concepts):
    scores = agreement(concepts, planted_hierarchy(scene_of_two(), (8, 8)))
    assert scores.dims == ("sample", "band", "level") and scores.sample.values.tolist() == [7]
    np.testing.assert_allclose(np.diagonal(scores.values[0]), 1)
    assert (scores.values[0][~np.eye(3, dtype=bool)] < 0.99).all()


def test_agreement_finds_its_samples_by_name(concepts):
    planted = planted_hierarchy(scene_of_two(), (8, 8))
    others = xr.concat([planted[:, :, ::-1].assign_coords(sample=[3]), planted], "sample")
    xr.testing.assert_equal(agreement(concepts, others), agreement(concepts, planted))


def test_energy_is_shared_out(concepts):
    assert concepts.energy.sum() == pytest.approx(1)
    assert concepts.energy.groupby(concepts.band).sum().values.argmax() == 0
    for _, band in concepts.energy.groupby(concepts.band):
        per_patch = band / concepts["mask"].sum(("row", "col")).values[concepts.band == _]
        assert (np.diff(per_patch) <= 0).all()  # strongest first


def test_links_lead_to_what_holds_the_concept(concepts):
    tree = graph(concepts, 7)
    assert tree.number_of_nodes() == concepts.sizes["concept"] and nx.is_branching(tree)
    masks, bands = concepts["mask"].values, concepts.band.values
    for source, target, shared in tree.edges(data=True):
        assert bands[target] == bands[source] + 1
        assert (masks[source] | ~masks[target]).all()
        pair = masks[source].ravel(), masks[target].ravel()
        assert shared["mutual_information"] == pytest.approx(mutual_info_score(*pair))
        assert shared["normalised_information"] == pytest.approx(normalized_mutual_info_score(*pair))
    assert {target for _, target in tree.edges} == set(np.flatnonzero(bands > 0))
    assert tree.nodes[int(np.flatnonzero(bands == 1)[0])]["label"] in WORDS


def test_links_follow_information_not_the_largest_overlap():
    lower, upper = np.zeros((2, 64))
    lower[:20], lower[20:25] = 1, 2
    upper[14:26] = 1  # holds 6 patches of the first, but all 5 of the second
    values = np.concatenate([wave(2) * (lower == 1), wave(2) * (lower == 2), wave(9) * upper], 1)
    trajectory = as_trajectory(values.reshape(1, TIME, 3, 8, 8), WORDS[:3], [0])
    trajectory = trajectory + 0.01 * np.random.default_rng(0).normal(size=trajectory.shape)
    concepts = concept_hierarchy(trajectory, bands=2)
    masks = concepts["mask"].values.reshape(-1, 64)
    assert [mask.sum() for mask in masks if (mask == upper).all()] == [12]
    parent = {int(t): int(s) for s, t in zip(concepts.link_source, concepts.link_target, strict=True)}
    child = next(index for index in parent if (masks[index] == upper).all())
    np.testing.assert_array_equal(masks[parent[child]], lower == 2)


def test_links_below_the_bound_are_left_out(planted_trajectory, concepts):
    bound = 0.9
    fewer = concept_hierarchy(planted_trajectory, links=bound)
    expected = concepts.normalised_information.values >= bound
    assert 0 < expected.sum() < len(expected)
    np.testing.assert_array_equal(fewer.link_target, concepts.link_target[expected])


def test_mutual_information_by_hand_and_by_scikit_learn():
    half, quarter = np.arange(64) < 32, np.arange(64) < 16
    crossed = np.arange(64) % 2 == 0
    assert mutual_information(half, half) == pytest.approx(np.log(2))
    assert mutual_information(half, ~half) == pytest.approx(np.log(2))
    assert mutual_information(half, crossed) == pytest.approx(0, abs=1e-12)
    by_hand = 0.25 * np.log(2) + 0.25 * np.log(2 / 3) + 0.5 * np.log(4 / 3)
    assert mutual_information(half, quarter) == pytest.approx(by_hand)
    masks = np.random.default_rng(0).random((5, 64)) < np.linspace(0, 1, 5)[:, None]
    ours = mutual_information(masks[:, None], masks)
    theirs = [[mutual_info_score(one, other) for other in masks] for one in masks]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_noise_agrees_with_nothing(noise):
    planted = planted_hierarchy(xk.draw_scenes(12, 3), (8, 8))
    scores = agreement(concept_hierarchy(noise), planted)
    assert np.abs(scores.mean("sample")).max() < 0.03


def test_no_motion_is_one_concept_a_band():
    still = concept_hierarchy(as_trajectory(np.ones((1, TIME, len(WORDS), 8, 8))))
    assert still.band.values.tolist() == [0, 1, 2] and still["mask"].all()
    assert (still.label == "").all() and (still.energy == 0).all() and still.silhouette.isnull().all()
    assert still.link_source.values.tolist() == [0, 1] and (still.mutual_information == 0).all()


@pytest.mark.parametrize("change", ["reversed in time", "permuted tokens", "scaled", "a trend", "padded"])
def test_what_does_not_matter(change, planted_trajectory, concepts):
    values, words = planted_trajectory.values.astype(float), np.array(WORDS)
    if change == "reversed in time":
        values = values[:, ::-1]
    elif change == "permuted tokens":
        order = [4, 0, 5, 2, 1, 3]
        values, words = values[:, :, order], words[order]
    elif change == "scaled":
        values = values * 30
    elif change == "a trend":
        values = values - np.arange(TIME)[:, None, None, None] * np.arange(8)[:, None]
    else:
        values, words = np.pad(values, [(0, 0)] * 2 + [(0, 2)] + [(0, 0)] * 2), np.append(words, ["", ""])
    again = concept_hierarchy(as_trajectory(values, words, [7]))
    np.testing.assert_array_equal(again["mask"], concepts["mask"])
    np.testing.assert_array_equal(again.label, concepts.label)
    # The window is periodic, so reversing time moves it by one point.
    np.testing.assert_allclose(again.energy, concepts.energy, atol=0.01 if change == "reversed in time" else 1e-5)


def test_every_token_counts_alike_unless_it_is_silent(planted_trajectory):
    two = planted_trajectory.isel(token=[2, 5])
    one, other = (concept_hierarchy(two * np.array([1, share])[:, None, None], bands=1) for share in (1, 0.7))
    assert {mask.tobytes() for mask in one["mask"].values} == {mask.tobytes() for mask in other["mask"].values}
    np.testing.assert_allclose(one.silhouette, other.silhouette, atol=1e-6)
    silent = concept_hierarchy(two * np.array([1, 1e-3])[:, None, None], bands=1)
    lone = concept_hierarchy(two.isel(token=[0]), bands=1)
    np.testing.assert_array_equal(silent["mask"], lone["mask"])
    np.testing.assert_allclose(silent.silhouette, lone.silhouette, atol=1e-3)


def test_a_single_hot_patch_hides_the_objects_unless_amplitudes_are_logarithms():
    planted = planted_hierarchy(scene_of_two(), (8, 8))
    strength = np.where(planted.sel(level="scene").values, 0.5, 0.05)
    strength *= np.exp(0.4 * np.random.default_rng(1).normal(size=strength.shape))
    strength[0, 0, 0] = 20
    noise = 0.02 * np.random.default_rng(0).normal(size=(1, TIME, 2, 8, 8))
    motion = strength[:, None, None] * (wave(2)[:, None] + noise)
    trajectory = as_trajectory(motion, ["blue", "ring"], [7])
    found = {scale: concept_hierarchy(trajectory, bands=1, scale=scale) for scale in ("linear", "log")}
    scores = {scale: agreement(of, planted).sel(level="scene").item() for scale, of in found.items()}
    assert found["linear"]["mask"].sum(("row", "col")).values.tolist() == [1, 63]
    assert scores["log"] > 0.8 and scores["linear"] < 0.1


def test_samples_do_not_touch_one_another(noise, planted_trajectory):
    together = xr.concat([noise.isel(sample=[0]), planted_trajectory, noise.isel(sample=[5])], "sample")
    whole = concept_labels(concept_hierarchy(together))
    assert sorted(whole.sample.values) == [0, 5, 7]
    alone = concept_labels(concept_hierarchy(planted_trajectory))
    assert (np.unique(whole.sel(sample=7), return_inverse=True)[1] == np.unique(alone, return_inverse=True)[1]).all()


def test_the_planted_hierarchy_nests_and_loses_few_objects():
    scenes = xk.draw_scenes(60, 0, objects=(2, 3))
    planted = planted_hierarchy(scenes, (8, 8))
    scene, thing, part = (planted.sel(level=level).values for level in ("scene", "object", "part"))
    np.testing.assert_array_equal(scene, thing > 0)
    np.testing.assert_array_equal(thing, (part + 1) // 2)
    there = scenes.object_name.values != ""
    owned = np.stack([(thing == k + 1).any((1, 2)) for k in range(there.shape[1])], 1)
    assert (owned <= there).all() and owned[there].mean() > 0.97


def test_planted_labels_of_whole_patches():
    planted = planted_hierarchy(scene_of_two(), (8, 8)).isel(sample=0)
    expected = np.zeros((8, 8), int)
    expected[1, 1:3], expected[2, 1:3], expected[4:6, 5:8], expected[6:8, 5:8] = 1, 2, 3, 4
    np.testing.assert_array_equal(planted.sel(level="part"), expected)


def test_clusters_of_features_are_the_same_kind_of_labels():
    planted = planted_hierarchy(scene_of_two(), (8, 8))
    label = planted.sel(level="object").values.reshape(1, 64)
    draw = np.random.default_rng(0)
    features = draw.normal(size=(3, 12))[label] + 0.1 * draw.normal(size=(1, 64, 12))
    features = xr.DataArray(features, {"sample": [7]}, ("sample", "patch", "width"))
    scores = agreement(cluster_patches(features, (8, 8), bands=2), planted)
    assert scores.sizes["band"] == 2
    np.testing.assert_allclose(scores.sel(level="object"), 1)


def test_wrong_input_is_named(planted_trajectory, concepts):
    course, planted = planted_trajectory, planted_hierarchy(scene_of_two(), (8, 8))
    for options in ({"bands": 0}, {"largest": 1}, {"seed": -1}, {"links": 1.5}, {"scale": "dB"}):
        refused(f"^{next(iter(options))}=", concept_hierarchy, course, **options)
    refused("dimensions", concept_hierarchy, course.isel(sample=0))
    refused("token_text", concept_hierarchy, course.drop_vars("token_text"))
    refused("10 points in time: 6 bands need", concept_hierarchy, course.isel(time=slice(10)), bands=6)
    refused("finite", concept_hierarchy, course.where(course.row > 0))
    refused("twice", concept_hierarchy, xr.concat([course] * 2, "sample"))
    refused(r"sample=3.*\[7\]", graph, concepts, 3)
    refused(r"lacks the samples \[7\]", agreement, concepts, planted.assign_coords(sample=[1]))
    refused(r"\(8, 8\) patches.*\(4, 4\)", agreement, concepts, planted_hierarchy(scene_of_two(), (4, 4)))
    features = xr.DataArray(np.ones((1, 63, 4)), dims=("sample", "patch", "width"))
    refused("64 patches", cluster_patches, features, (8, 8))
