"""Spectra of nulls: what is shuffled and what is kept, spectra against the trajectory's own, peaks of spectra made by hand."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from refusals import refused

import xaikit as xk
from xaikit.clip import pairs
from xaikit.files import store
from xaikit.resonance import spectra as spectral
from xaikit.resonance.recursion import resonate
from xaikit.resonance.spectra import fourier, null_spectra_of, peaks, shuffled_weights


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(4, seed=2).assign_coords(sample=[3, 5, 6, 9])


def null_spectra(clip, scenes, draws=2, nulls=spectral.NULLS, seed=0, batch_size=64, **options):
    settings = {"one": {"draws": draws, **options}}
    return null_spectra_of(clip, scenes.image, scenes.caption, settings, nulls, seed, batch_size)["one"]


def weights(clip):
    return {name: weight.detach().clone() for name, weight in clip.model.named_parameters()}


def test_shuffled_weights_are_the_same_values_elsewhere(clip, scenes):
    before, digest = weights(clip), clip.weights_digest
    broken = shuffled_weights(clip, 1)
    after = weights(broken)
    assert after.keys() == before.keys()
    for name, weight in before.items():
        assert torch.equal(after[name].flatten().sort().values, weight.flatten().sort().values), name
        assert torch.equal(dict(clip.model.named_parameters())[name], weight)
        if weight.numel() > 100 and weight.unique().numel() > 100:
            assert (after[name] != weight).float().mean() > 0.9, name
    assert clip.weights_digest == digest and broken.weights_digest != digest
    pairs = scenes.image, scenes.caption
    own, other = clip.similarity(*pairs), broken.similarity(*pairs)
    assert (own - other).abs().max() > 0.1
    assert torch.equal(broken.similarity(*pairs), shuffled_weights(clip, 1).similarity(*pairs))
    assert not torch.equal(broken.similarity(*pairs), shuffled_weights(clip, 2).similarity(*pairs))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_weights_of_half_precision_are_shuffled_too(precision):
    half = xk.load_clip("tiny-clip", precision=precision)
    for before, after in zip(half.model.parameters(), shuffled_weights(half, 0).model.parameters(), strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)


def test_settings_share_the_models_of_their_nulls(clip, scenes, monkeypatch):
    settings = {"first": {"coupling": "none", "draws": 2}, "second": {"coupling": "attention", "draws": 1}}
    alone = {name: null_spectra(clip, scenes, seed=3, **options) for name, options in settings.items()}
    made = []
    monkeypatch.setattr(
        spectral, "shuffled_weights", lambda one, seed: made.append(seed) or shuffled_weights(one, seed)
    )
    found = null_spectra_of(clip, scenes.image, scenes.caption, settings, seed=3)
    assert made == [3, 4]
    for name, each in alone.items():
        xr.testing.assert_identical(found[name].drop_attrs(), each.drop_attrs())


def test_a_pair_is_never_exchanged_with_itself():
    rng = np.random.default_rng(0)
    for n in (2, 3, 7):
        drawn = np.stack([spectral._another(n, rng) for _ in range(200)])
        assert (drawn != np.arange(n)).all() and (np.sort(drawn, 1) == np.arange(n)).all()
        assert len(np.unique(drawn, axis=0)) == {2: 1, 3: 2}.get(n, len(np.unique(drawn, axis=0)))
    assert len(np.unique(drawn, axis=0)) > 100


@pytest.mark.parametrize("coupling", ["none", "attention"])
def test_spectra_are_those_of_the_trajectories(clip, scenes, tmp_path, coupling):
    found = null_spectra(clip, scenes, np.int64(2), seed=4, batch_size=3, coupling=coupling, alpha=1.4)
    store.write(found, tmp_path / "a.nc", "null_spectra")
    assert found.sample.values.tolist() == [3, 5, 6, 9]
    np.testing.assert_allclose(found.frequency, np.arange(1, 11) / 21)

    def by_hand(clip, captions):
        maps = resonate(clip, scenes.image, captions, coupling=coupling, alpha=1.4)
        square = fourier(torch.from_numpy(maps.trajectory.values), 1)[:, 1:].abs().square().numpy()
        lengths = (maps.token_text.values != "").sum(1)
        energy = np.stack([each[:, :n].mean((1, 2, 3)) for each, n in zip(square, lengths, strict=True)])
        return energy**0.5, energy / energy.sum(1, keepdims=True)

    amplitude, share = by_hand(clip, scenes.caption)
    np.testing.assert_allclose(found.mean_amplitude, amplitude, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(found.energy_share, share, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.energy_share.sum("frequency"), 1, rtol=1e-6)
    np.testing.assert_allclose(found.null_share.sum("frequency"), 1, rtol=1e-6)
    rng = np.random.default_rng(4)
    for draw in range(2):
        exchanged = scenes.caption.values[spectral._another(4, rng)]
        nulls = {"weights": (shuffled_weights(clip, 4 + draw), scenes.caption), "captions": (clip, exchanged)}
        for name, given in nulls.items():
            amplitude, share = by_hand(*given)
            at = {"null": name, "draw": draw}
            np.testing.assert_allclose(found.null_amplitude.sel(at), amplitude.mean(0), rtol=1e-3, atol=1e-7)
            np.testing.assert_allclose(found.null_share.sel(at), share.mean(0), rtol=1e-3, atol=1e-6)
            np.testing.assert_allclose(found.null_scene_share.sel(at), share, rtol=1e-3, atol=1e-6)
    about = json.loads(found.attrs["provenance"])["parameters"]
    assert about["draws"] == 2 and about["null_seed"] == 4 and about["alpha"] == 1.4


def test_a_large_tower_is_read_in_smaller_batches_than_asked_for(clip, scenes, monkeypatch):
    def drawn():
        return null_spectra(clip, scenes, iterations=8).null_scene_share

    whole = drawn()
    monkeypatch.setattr(pairs, "GRAPH", 3 * pairs.bytes_of_graph(clip))
    np.testing.assert_allclose(drawn(), whole, atol=1e-5)


def spectra(share, level, wide=0.01):
    """Hand-made spectra of 5 samples, each null's share about ``level`` within ``wide``."""
    rng, each = np.random.default_rng(0), ("null", "draw", "frequency")
    return xr.Dataset(
        {
            "energy_share": (("sample", "frequency"), share + np.zeros((5, 1))),
            "null_share": (each, level + wide * rng.uniform(-1, 1, (2, 200, len(share)))),
        },
        coords={"frequency": np.arange(1, len(share) + 1) / 21, "null": ["weights", "captions"]},
    )


DECAY = np.array([0.5, 0.2, 0.1, 0.06, 0.04, 0.03, 0.025, 0.02, 0.015, 0.01])


def test_a_planted_peak_is_found_unless_one_null_has_it_as_well():
    share = DECAY.copy()
    share[6] += 0.1
    made = spectra(share, level=DECAY)
    table = peaks(made)
    assert table.peak.tolist() == [False] * 6 + [True] + [False] * 3
    assert table.columns.tolist() == [
        "frequency", "energy_share", "weights_low", "weights_high", "captions_low", "captions_high",
        "above_band", "stands_out", "peak",
    ]  # fmt: skip
    np.testing.assert_allclose(table.energy_share, share)
    np.testing.assert_allclose(table.frequency, np.arange(1, 11) / 21)
    # The middle 95 % of a uniform null: 0.95 of its width either way.
    np.testing.assert_allclose(table.weights_low, DECAY - 0.0095, atol=8e-4)
    np.testing.assert_allclose(table.captions_high, DECAY + 0.0095, atol=8e-4)
    made["null_share"][1, :, 6] += 0.1
    table = peaks(made)
    assert not table.above_band.any() and table.stands_out[6] and not table.peak.any()


def test_a_transient_is_no_peak():
    """Energy that falls with frequency, more of it at the low ones than in any null: above the band, and no peak."""
    table = peaks(spectra(DECAY, level=np.full(10, 0.02), wide=0.005))
    assert table.above_band[0] and not table.stands_out.any() and not table.peak.any()
    rising = peaks(spectra(DECAY[::-1], level=np.full(10, 0.02), wide=0.005))
    assert rising.peak.tolist() == [False] * 9 + [True]  # an alternation with period 2


def test_one_sentence_for_a_wrong_choice(clip, scenes, monkeypatch):
    monkeypatch.setattr(spectral, "read", lambda *args: pytest.fail("work was done"))
    for options, message in (
        ({"iterations": 7}, "iterations=7: a whole number of at least 8"),
        ({"draws": 0}, "draws=0: a whole number of at least 1"),
        ({"seed": -1}, "seed=-1: a whole number of at least 0"),
        ({"nulls": ("noise",)}, "nulls='noise': choose from weights, captions"),
        ({"coupling": "all"}, "coupling='all': choose from"),
        ({"rank": 2}, "unknown option 'rank' of the recursion"),
        ({"batch_size": 0}, "batch_size=0: a whole number"),
    ):
        refused(message, null_spectra, clip, scenes, **options)
    refused("one pair only: shuffled captions need at least 2", null_spectra, clip, scenes[{"sample": [0]}])
    refused("settings={}: give at least one", null_spectra_of, clip, scenes.image, scenes.caption, {})


def test_one_pair_has_a_null_of_weights(clip, scenes):
    found = null_spectra(clip, scenes[{"sample": [0]}], nulls=("weights",), iterations=8)
    assert found.null_share.shape == (1, 2, 4) and found["null"].values.tolist() == ["weights"]
