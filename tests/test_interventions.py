"""Interventions on resonance: patches taken out of the image, and images changed so that a mode goes."""

import numpy as np
import pytest
import torch
import xarray as xr
from refusals import refused

import xaikit as xk
from xaikit.clip import pairs
from xaikit.clip.perturbation import filled, to_patches
from xaikit.clip.towers import tower
from xaikit.resonance.adversarial import CONTROLS, normalised, suppress_resonance, unnormalised
from xaikit.resonance.interventions import (
    ABLATIONS,
    TOLERANCE,
    ablate,
    ablate_modes,
    dominant_frequency,
    matched_sets,
    mode_energy,
    removable_energy,
)
from xaikit.resonance.recursion import read, recursion_of, trajectory

EPSILON = 8 / 255


@pytest.fixture(scope="module")
def scenes():
    return xk.draw_scenes(6, seed=5, objects=(2, 3))


@pytest.fixture(scope="module")
def inputs(clip, scenes):
    return clip.pixels(scenes.image), clip.tokens(scenes.caption)


@pytest.fixture(scope="module")
def maps(clip, scenes):
    return {"grad_eclip": xk.explain("grad_eclip", clip, scenes.image, scenes.caption)}


@pytest.fixture(scope="module")
def ablated(clip, scenes, maps):
    return ablate_modes(clip, scenes.image, scenes.caption, draws=8, maps=maps)


@pytest.fixture(scope="module")
def suppressed(clip, scenes):
    return suppress_resonance(clip, scenes.image, scenes.caption, updates=10)


def named_patches(clip, scenes, count=10):
    """The patches that the named objects cover most of, (n, 1, rows, cols)."""
    mask = torch.from_numpy((scenes.object_mask & scenes.object_named).any("object").values).float()
    covered = to_patches(mask, tower(clip, "image"))
    place = (-covered.flatten(1)).argsort(dim=1, stable=True).argsort(1)
    return (place < count).unflatten(1, covered.shape[1:])[:, None]


def test_the_dominant_mode_is_the_planted_one_and_lies_where_it_was_planted():
    time = torch.arange(21.0)
    course = 0.01 * torch.randn(2, 21, 3, 16, generator=torch.Generator().manual_seed(0))
    wave = [torch.cos(2 * torch.pi * k * time / 21) for k in (4, 7)]
    course[0, :, 1, 5] += 2 * wave[0]
    course[0, :, 0, 5] += 1 * wave[0]
    course[1, :, 2, 9] += 3 * wave[1]
    course += 5 * time[:, None, None]  # a trend is no oscillation
    index = dominant_frequency(course)
    assert index.tolist() == [4, 7]
    energy = mode_energy(course, index)
    assert energy.argmax(1).tolist() == [5, 9]
    assert energy[0, 5].item() == pytest.approx(2**2 + 1**2, rel=0.05)
    assert energy[1, 9].item() == pytest.approx(3**2, rel=0.05)


def test_random_sets_match_in_number_and_energy_and_reach_everywhere():
    random = np.random.default_rng(3)
    energy = random.exponential(size=(4, 64)) * np.array([1, 10, 100, 1000])[:, None]
    removed = np.argsort(-energy * random.random((4, 64)), 1).argsort(1)[:, None] < 10
    sets, target, reached = matched_sets(energy, removed, 200, np.random.default_rng(0))
    assert sets.shape == (4, 1, 200, 64)
    assert (sets.sum(-1) == 10).all()
    np.testing.assert_allclose(target[:, 0], np.where(removed[:, 0], energy, 0).sum(1))
    np.testing.assert_allclose(reached, np.einsum("nadp,np->nad", sets, energy))
    assert (np.abs(reached - target[..., None]) <= TOLERANCE * target[..., None]).all()
    assert len({each.tobytes() for each in sets[0, 0]}) > 190
    assert (sets.any(2).mean(-1) > 0.9).all()


def test_equal_energies_leave_plain_random_sets():
    removed = np.zeros((1, 1, 36), bool)
    removed[..., :9] = True
    sets, _, _ = matched_sets(np.ones((1, 36)), removed, 4000, np.random.default_rng(0))
    np.testing.assert_allclose(sets.mean((0, 1, 2)), 0.25, atol=4 * np.sqrt(0.25 * 0.75 / 4000))


def test_an_energy_that_only_the_set_itself_has_is_given_back():
    energy = np.concatenate([np.full((1, 5), 100.0), np.zeros((1, 31))], 1)
    removed = (energy > 0)[:, None]
    sets, target, reached = matched_sets(energy, removed, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(sets, np.broadcast_to(removed[:, :, None], sets.shape))
    np.testing.assert_array_equal(reached, target[..., None].repeat(5, 2))


def test_removing_every_patch_leaves_the_fill(clip, inputs):
    pixels, tokens = inputs
    everything = torch.ones(len(pixels), 1, *tower(clip, "image").grid, dtype=torch.bool)
    whole, none = ablate(clip, pixels, tokens, torch.cat([everything, ~everything], 1), filled(clip, pixels, "blur"))
    spoken = clip.encode_text(tokens)
    for found, images in ((whole, pixels), (none[:, 0], filled(clip, pixels, "blur")), (none[:, 1], pixels)):
        np.testing.assert_allclose(found, (clip.encode_image(images) * spoken).sum(1).numpy(), atol=1e-5)


def test_the_named_objects_patches_matter_more_than_others_of_their_energy(clip, scenes, inputs):
    pixels, tokens = inputs
    masks = named_patches(clip, scenes).numpy()
    # A random colour a patch, far from object and background alike: beside their mean colour, objects alone have energy.
    substitute = filled(clip, pixels, "random")
    energy = removable_energy(clip, pixels, substitute)
    drawn, _, _ = matched_sets(energy, masks.reshape(len(masks), 1, -1), 10, np.random.default_rng(0))
    whole, named = ablate(clip, pixels, tokens, masks, substitute)
    _, random = ablate(clip, pixels, tokens, drawn.reshape(len(masks), 10, *masks.shape[2:]), substitute)
    fall, control = (whole - named[:, 0]).mean(), (whole[:, None] - random).mean()
    assert fall > 0.2 and fall > 2 * control


def test_what_is_removed_is_reported(clip, scenes, inputs, ablated):
    assert list(ablated.ablation.values) == [*ABLATIONS, "grad_eclip"]
    assert (ablated.removed.sum(("row", "col")) == 10).all()
    assert float(ablated.matched.mean()) > 0.9
    whole, cosine = ablate(clip, *inputs, ablated.removed.values, filled(clip, inputs[0], "mean"))
    np.testing.assert_allclose(ablated.similarity, whole, atol=1e-5)
    np.testing.assert_allclose(ablated.change, cosine - whole[:, None], atol=1e-5)
    off = np.abs(ablated.random_energy - ablated.energy) / ablated.energy
    np.testing.assert_allclose((off <= TOLERANCE).mean("draw"), ablated.matched, atol=1e-6)
    assert ((ablated.overlap >= 0) & (ablated.overlap <= 1)).all()


def test_the_maps_choose_the_patches(clip, inputs, maps, ablated):
    recursion = recursion_of({})
    with torch.no_grad():
        course = trajectory(clip, read(clip, *inputs, recursion), recursion)
    maps = {
        "end": course[:, -1].sum(1).numpy(),
        "mode": mode_energy(course, dominant_frequency(course)).numpy(),
        "grad_eclip": maps["grad_eclip"].values.reshape(len(course), -1),
    }
    for name, heat in maps.items():
        kept = ablated.removed.sel(ablation=name).values.reshape(heat.shape)
        lowest = np.where(kept, heat, np.inf).min(1)
        assert (lowest >= np.where(kept, -np.inf, heat).max(1)).all(), name


def test_ablation_is_the_same_again_and_in_any_batches(clip, scenes, maps, ablated):
    again = ablate_modes(clip, scenes.image, scenes.caption, draws=8, batch_size=2, maps=maps)
    xr.testing.assert_equal(again.removed, ablated.removed)
    xr.testing.assert_allclose(again, ablated, atol=1e-5)
    other = ablate_modes(clip, scenes.image, scenes.caption, draws=8, seed=1, ablations=("mode",))
    assert not np.allclose(other.random_change, ablated.random_change.sel(ablation=["mode"]))


def test_ablation_with_the_encoder(clip, scenes):
    found = ablate_modes(clip, scenes.image[:2], scenes.caption[:2], draws=2, ablations=("mode",), coupling="encoder")
    assert np.isfinite(found.change).all() and (found.frequency > 0).all()


@pytest.mark.parametrize(
    ("intervention", "options", "says"),
    [
        (ablate_modes, {"share": 0}, "share=0"),
        (ablate_modes, {"draws": 0}, "draws=0"),
        (ablate_modes, {"fill": "pink"}, "fill='pink'"),
        (ablate_modes, {"ablations": ("modes",)}, "ablations='modes'"),
        (ablate_modes, {"ablations": ()}, r"ablations=\(\)"),
        (ablate_modes, {"maps": {"mode": np.zeros((6, 8, 8))}}, "maps='mode'"),
        (ablate_modes, {"maps": {"mine": np.zeros((6, 8, 7))}}, r"map 'mine' has shape \(6, 8, 7\)"),
        (ablate_modes, {"iterations": 3}, "iterations=3"),
        (ablate_modes, {"seed": -1}, "seed=-1"),
        (ablate_modes, {"alfa": 1}, "unknown option 'alfa'"),
        (suppress_resonance, {"epsilon": -0.1}, "epsilon=-0.1"),
        (suppress_resonance, {"epsilon": 8}, "epsilon=8"),
        (suppress_resonance, {"epsilon": float("nan")}, "epsilon=nan"),
        (suppress_resonance, {"updates": 0}, "updates=0"),
        (suppress_resonance, {"step_size": 0}, "step_size=0"),
        (suppress_resonance, {"iterations": 2}, "iterations=2"),
        (suppress_resonance, {"batch_size": 0}, "batch_size=0"),
        (suppress_resonance, {"couplings": 1}, "unknown option 'couplings'"),
    ],
)
def test_wrong_options_are_refused(clip, scenes, intervention, options, says):
    refused(says, intervention, clip, scenes.image, scenes.caption, **options)


def test_masks_of_another_grid_and_pixels_that_no_picture_has_are_refused(clip, inputs):
    refused("bool", ablate, clip, *inputs, np.ones((6, 1, 7, 8), bool), inputs[0])
    pixels = inputs[0].clone()
    pixels[3, 0, 0, 0] = 9
    refused("image 3 holds pixels outside 0 to 1", suppress_resonance, clip, pixels, inputs[1])


def test_suppression_keeps_its_bound_and_the_range_of_pixels(clip, scenes, suppressed):
    images = suppressed.image
    clean = images.sel(state="clean")
    np.testing.assert_allclose(clean, scenes.image.values / 255, atol=1e-6)
    assert float(images.min()) >= 0 and float(images.max()) <= 1
    size = np.abs(images - clean).max(("y", "x", "rgb"))
    np.testing.assert_allclose(size, suppressed["size"])
    assert (size <= EPSILON + 1e-7).all() and (size.drop_sel(state="clean") > 0.9 * EPSILON).all()


def test_the_controls_of_an_attack_are_its_own_change_elsewhere_and_the_same_attack_on_another_caption(
    clip, scenes, suppressed
):
    change = suppressed.image - suppressed.image.sel(state="clean")
    moved = np.roll(change.sel(state="suppressed").values, (32, 32), (1, 2))
    wanted = np.clip(suppressed.image.sel(state="clean").values + moved, 0, 1)
    np.testing.assert_allclose(suppressed.image.sel(state="rolled"), wanted, atol=1e-6)
    following = np.roll(scenes.caption.values, -1)
    assert (following != scenes.caption.values).all()
    other = suppress_resonance(clip, scenes.image, following, updates=10)
    misled = suppressed.image.sel(state="other caption") - other.image.sel(state="suppressed").values
    assert float((np.abs(misled) > 1e-6).mean()) < 0.01


def test_a_large_tower_is_attacked_in_smaller_batches_than_asked_for(clip, scenes, suppressed, monkeypatch):
    monkeypatch.setattr(pairs, "GRAPH", 2 * pairs.bytes_of_graph(clip))
    found = suppress_resonance(clip, scenes.image, scenes.caption, updates=10)
    assert float((np.abs(found.image - suppressed.image) > 1e-6).mean()) < 0.01


def test_an_attack_without_another_caption_is_refused(clip, scenes):
    refused("1 text only", suppress_resonance, clip, scenes.image[:1], scenes.caption[:1])
    refused("2 texts that are all the same", suppress_resonance, clip, scenes.image[:2], ["a ring", "a ring"])


def test_suppression_takes_the_mode_out_and_noise_does_not(clip, suppressed):
    energy = suppressed.energy
    left = energy.sel(state="suppressed") / energy.sel(state="clean")
    assert left.mean() < 0.4 and left.max() < 0.9
    for control in CONTROLS:
        assert (energy.sel(state="suppressed") < energy.sel(state=control)).all(), control
    assert 0.5 < float((energy.sel(state="random") / energy.sel(state="clean")).median()) < 2
    course = suppressed.course.values
    assert (np.diff(course) <= 0).all()
    np.testing.assert_allclose(course[:, 0], energy.sel(state="clean"), rtol=1e-3)
    np.testing.assert_allclose(course[:, -1], energy.sel(state="suppressed"), rtol=1e-3)


def test_suppression_reports_what_the_images_show(clip, scenes, suppressed):
    recursion = recursion_of({})
    changed = torch.from_numpy(suppressed.image.sel(state="suppressed").values).permute(0, 3, 1, 2)
    pixels = normalised(clip, changed)
    torch.testing.assert_close(unnormalised(clip, pixels), changed, atol=1e-6, rtol=0)
    np.testing.assert_allclose(
        clip.similarity(pixels, scenes.caption).diagonal(), suppressed.similarity.sel(state="suppressed"), atol=1e-4
    )
    with torch.no_grad():
        course = trajectory(clip, read(clip, pixels, clip.tokens(scenes.caption), recursion), recursion)
    index = (suppressed.frequency.values * 21).round().astype(int)
    energy = mode_energy(course, torch.from_numpy(index)).sum(1)
    np.testing.assert_allclose(energy, suppressed.energy.sel(state="suppressed"), rtol=1e-3)
    np.testing.assert_allclose(suppressed.rank_correlation.sel(state="clean"), 1)
    total = suppressed.resonance_map.sum(("row", "col"))
    np.testing.assert_allclose(total, suppressed.total_energy, rtol=1e-4)
    assert (suppressed.energy <= suppressed.total_energy * 1.0001).all()


def test_no_room_changes_nothing(clip, scenes):
    found = suppress_resonance(clip, scenes.image[:2], scenes.caption[:2], epsilon=0, updates=2)
    for name in ("image", "energy", "similarity"):
        for state in ("suppressed", *CONTROLS):
            np.testing.assert_array_equal(found[name].sel(state=state), found[name].sel(state="clean"))


def test_suppression_is_the_same_again_and_in_any_batches(clip, scenes):
    first, again, parts = (
        suppress_resonance(clip, scenes.image[:4], scenes.caption[:4], updates=3, batch_size=size) for size in (4, 4, 2)
    )
    xr.testing.assert_identical(first, again)
    for state in ("clean", "random"):
        np.testing.assert_allclose(parts.image.sel(state=state), first.image.sel(state=state), atol=1e-6)
    # Rounding turns the sign of slopes next to 0, here and there.
    assert float((np.abs(parts.image - first.image) > 1e-6).mean()) < 0.01
    np.testing.assert_allclose(parts.energy, first.energy, rtol=0.02)


@pytest.mark.parametrize("coupling", ["attention", "none", "encoder"])
def test_the_slope_is_that_of_finite_differences(clip, inputs, coupling):
    recursion = recursion_of({"coupling": coupling, "iterations": 8})
    pixels, tokens = inputs[0][:2], inputs[1][:2]
    with torch.no_grad():
        index = dominant_frequency(trajectory(clip, read(clip, pixels, tokens, recursion), recursion))

    def energy(values):
        course = trajectory(clip, read(clip, values, tokens, recursion), recursion)
        return mode_energy(course, index).sum(1).double()

    values = pixels.clone().requires_grad_()
    (slope,) = torch.autograd.grad(energy(values).sum(), values)
    along = slope / slope.flatten(1).norm(dim=1)[:, None, None, None]
    step = 0.02
    with torch.no_grad():
        found = (energy(pixels + step * along) - energy(pixels - step * along)) / (2 * step)
    np.testing.assert_allclose(found, (slope * along).sum((1, 2, 3)), rtol=0.03)
