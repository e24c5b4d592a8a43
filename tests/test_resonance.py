"""The resonance recursion against loops written out from the model's own weights, its options, its errors, its explainers."""

import dataclasses
import json

import numpy as np
import pytest
import small_models
import torch
from refusals import refused
from scipy.special import expit, softmax
from small_models import small_clip

import xaikit as xk
from xaikit.clip.model import copied
from xaikit.clip.pairs import Pairs, join
from xaikit.clip.towers import shares_space
from xaikit.files import store
from xaikit.resonance import coupling as couplings, recursion as recursions
from xaikit.resonance.recursion import Recursion, patch_features, read, resonate, trajectory
from xaikit.resonance.spectra import resonance_energy

SHORT, LONG = "a red ring", "a large blue ring below a small pink square"
IDS = torch.tensor([[1, 5, 9, 63, *[0] * 8], [1, 5, 9, 7, 8, 63, *[0] * 6]])
ABLE, UNABLE = ("small-vit", "small-custom-blocks", "small-eva02"), ("small-siglip", "small-coca")


@pytest.fixture(scope="module")
def pairs(clip):
    """Pixels of three images, and their prompts of 3, 9 and 3 words."""
    return clip.pixels(xk.draw_scenes(3, seed=2).image), [SHORT, LONG, "a blue cross"]


def by_hand(clip, pixels, texts):
    """V Wv of each image and T Wt of each prompt's own words, in float64 from the two transformers' outputs."""
    outputs = {}
    model = clip.model
    layers = {"image": model.visual.transformer, "text": model.transformer}
    handles = [
        layer.register_forward_hook(lambda m, i, o, side=side: outputs.update({side: o.numpy().astype(float)}))
        for side, layer in layers.items()
    ]
    with torch.no_grad():
        model(pixels, clip.tokens(texts))
    for handle in handles:
        handle.remove()

    def normed(x, norm):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + norm.eps)
        return x * norm.weight.numpy() + norm.bias.numpy()

    patches = normed(outputs["image"][:, 1:], model.visual.ln_post) @ model.visual.proj.numpy()
    words = normed(outputs["text"], model.ln_final) @ model.text_projection.numpy()
    lengths = [len(strings) for strings in clip.token_strings(texts)]
    return patches, [row[1 : 1 + length] for row, length in zip(words, lengths, strict=True)]


def words_by_hand(clip, pairs):
    """Number of the sample and of the token, V Wv and T Wt, of each word."""
    for sample, (patches, words) in enumerate(zip(*by_hand(clip, *pairs), strict=True)):
        for token, word in enumerate(words):
            yield sample, token, patches, word


def cosine(patches, word):
    return patches @ word / np.linalg.norm(patches, axis=-1) / np.linalg.norm(word)


def iterated(phi, start, alpha, iterations):
    maps = [start]
    for _ in range(iterations):
        maps.append(alpha * phi(maps[-1]) + (1 - alpha) * maps[-1])
    return np.stack(maps)


def flat(found):
    """The trajectory as (sample, time, token, patch)."""
    return found.trajectory.values.reshape(*found.trajectory.shape[:3], -1)


@pytest.mark.parametrize("start", ["uniform", "random"])
@pytest.mark.parametrize("alpha", [0.3, 1.0, 1.7])
def test_the_letter_is_a_scalar_map_of_each_entry(clip, pairs, alpha, start):
    """METHODS.md section 4: r -> alpha * mean over d of sigma(r V_d) sigma(T_d) + (1 - alpha) r, alone for each entry."""
    found = flat(resonate(clip, *pairs, coupling="none", alpha=alpha, start=start))
    assert found.shape == (3, 21, 9, 64)
    for sample, token, patches, word in words_by_hand(clip, pairs):
        heard = expit(word) / len(word)
        for patch in (0, 27, 63):
            expected = iterated(
                lambda r, v=patches[patch], heard=heard: float(expit(r * v) @ heard),
                float(found[sample, 0, token, patch]), alpha, 20,
            )  # fmt: skip
            np.testing.assert_allclose(found[sample, :, token, patch], expected, atol=1e-6)


@pytest.mark.parametrize(("scale", "reach"), [(1, (0.0, 1.0)), (20, (0.0, 1.0)), (1, (-3.0, 4.0)), (0, (1.0, 1.0))])
def test_the_table_of_the_letter_is_the_letter(clip, pairs, scale, reach):
    found = read(clip, pairs[0], clip.tokens(pairs[1]), Recursion())
    found.patches = found.patches * scale
    phi = couplings.coupled(clip, found, "none", None, -2, reach)
    gate = torch.linspace(*reach, 3 * 9 * 64)[torch.randperm(3 * 9 * 64)].view(3, 9, 64)
    heard = torch.sigmoid(found.words).unsqueeze(-1) / found.words.shape[-1]
    expected = (torch.sigmoid(gate.unsqueeze(-1) * found.patches[:, None]) @ heard).squeeze(-1)
    assert (phi(gate) - expected).abs().max() < 1e-6


def test_attention_is_its_loop(clip, pairs):
    for alpha, temperature in ((0.5, None), (1.7, 2.0)):
        found = flat(resonate(clip, *pairs, alpha=alpha, temperature=temperature, start="random", seed=3))
        for sample, token, patches, word in words_by_hand(clip, pairs):
            scaled = cosine(patches, word) / (temperature or couplings.TEMPERATURES["attention"])
            expected = iterated(lambda r, c=scaled: 64 * softmax(r * c), found[sample, 0, token], alpha, 20)
            np.testing.assert_allclose(found[sample, :, token], expected, atol=2e-3, rtol=1e-3)


def test_the_maps_of_attention_keep_their_mean(clip, pairs):
    found = flat(resonate(clip, *pairs, alpha=0.8))
    there = np.arange(9) < np.array([3, 9, 3])[:, None]
    np.testing.assert_allclose(found.mean(-1).transpose(0, 2, 1)[there], 1, atol=1e-5)
    assert found[:, 1:].std(-1).transpose(0, 2, 1)[there].min() > 0.01


def encoder_by_hand(clip, pixels, text, block, start, alpha, iterations, temperature):
    """One whole run of the model a word and iteration, its patches scaled on their way into a block."""
    blocks, words = clip.model.visual.transformer.resblocks, by_hand(clip, pixels, [text])[1][0]
    maps = []
    for word, first in zip(words, start, strict=True):

        def phi(gate, word=word):
            def scale(module, inputs):
                hidden = inputs[0].clone()
                hidden[:, 1:] *= torch.tensor(gate, dtype=torch.float32)[None, :, None]
                return hidden, *inputs[1:]

            handle = blocks[block].register_forward_pre_hook(scale)
            patches = by_hand(clip, pixels, [text])[0][0]
            handle.remove()
            return 64 * softmax(cosine(patches, word) / temperature)

        maps.append(iterated(phi, first, alpha, iterations))
    return np.stack(maps, 1)


@pytest.mark.parametrize(("block", "begin"), [(-2, "random"), (-1, "random"), (0, "random"), (-2, "uniform")])
def test_encoder_is_the_model_run_again(clip, pairs, block, begin):
    options = {"coupling": "encoder", "alpha": 0.7, "iterations": 3, "start": begin, "temperature": 0.1}
    found = flat(resonate(clip, *pairs, block=block, **options))
    for sample in (0, 2):
        start = found[sample, 0, :3].astype(float)
        expected = encoder_by_hand(clip, pairs[0][sample : sample + 1], pairs[1][sample], block, start, 0.7, 3, 0.1)
        np.testing.assert_allclose(found[sample, :, :3], expected, rtol=1e-3, atol=1e-4)


def test_how_many_copies_run_at_once_does_not_matter(clip, pairs, monkeypatch):
    options = {"coupling": "encoder", "iterations": 2}
    expected = flat(resonate(clip, *pairs, **options))
    sizes = []
    original = couplings.encoder
    monkeypatch.setattr(couplings, "encoder", lambda gate, *rest: sizes.append(len(gate)) or original(gate, *rest))
    monkeypatch.setattr(couplings, "at_once", lambda device: 4)
    found = flat(resonate(clip, *pairs, **options))
    assert sizes == [4, 4, 4, 3] * 2
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("coupling", couplings.COUPLINGS)
def test_batches_and_longer_prompts_change_nothing(clip, pairs, coupling):
    options = {"coupling": coupling, "iterations": 4, "start": "random"}
    together = flat(resonate(clip, *pairs, **options))
    one_by_one = flat(resonate(clip, *pairs, batch_size=1, **options))
    np.testing.assert_allclose(together, one_by_one, rtol=1e-4, atol=1e-5)
    for sample, words in enumerate((3, 9, 3)):
        alone = flat(resonate(clip, pairs[0][sample : sample + 1], pairs[1][sample], **options))
        assert alone.shape[2] == words
        np.testing.assert_allclose(together[sample, :, :words], alone[0], rtol=1e-4, atol=1e-5)
        assert (together[sample, :, words:] == 0).all() and (np.abs(alone).max((0, 1, 3)) > 0).all()


@pytest.mark.parametrize("coupling", couplings.COUPLINGS)
def test_words_do_not_hear_each_other(clip, pairs, coupling):
    """A change of one word's feature changes this word's maps alone."""
    recursion = Recursion(coupling, iterations=3)
    with torch.no_grad():
        found = read(clip, pairs[0], clip.tokens(pairs[1]), recursion)
        before = trajectory(clip, found, recursion).numpy()
        found.words = found.words.clone()
        found.words[1, 4] = -found.words[1, 4]
        changed = np.abs(trajectory(clip, found, recursion).numpy() - before).max((1, 3))
    assert changed[1, 4] > 1e-2
    changed[1, 4] = 0
    assert changed.max() < 1e-5


@pytest.mark.parametrize("coupling", couplings.COUPLINGS)
def test_the_last_word_alone_is_the_last_of_all(clip, pairs, coupling):
    options = {"coupling": coupling, "iterations": 2}
    every, last = (flat(resonate(clip, *pairs, words=words, **options)) for words in ("all", "last"))
    assert every.shape == last.shape
    for sample, index in enumerate((2, 8, 2)):
        np.testing.assert_allclose(last[sample, :, index], every[sample, :, index], rtol=1e-4, atol=1e-5)
        assert (np.delete(last[sample], index, 1) == 0).all()


@pytest.mark.parametrize("coupling", couplings.COUPLINGS)
def test_where_the_recursion_starts(clip, pairs, coupling):
    def start(**options):
        return flat(resonate(clip, *pairs, coupling=coupling, iterations=1, **options))[:, 0]

    assert (start()[1] == 1).all()
    warm = couplings.TEMPERATURES[coupling] or couplings.TEMPERATURES["attention"]
    patches, words = by_hand(clip, *pairs)
    for token, word in enumerate(words[1]):
        expected = 64 * softmax(cosine(patches[1], word) / warm)
        np.testing.assert_allclose(start(start="cosine")[1, token], expected, rtol=1e-4)
    drawn = start(start="random", seed=3)
    assert 0 <= drawn.min() and drawn.max() <= 2 and abs(drawn[1].mean() - 1) < 0.1 and drawn[1].std() > 0.5
    np.testing.assert_array_equal(drawn, start(start="random", seed=3))
    np.testing.assert_array_equal(drawn[0, :3], drawn[1, :3])
    assert (drawn[1] != start(start="random", seed=4)[1]).mean() > 0.99
    assert np.abs(drawn[1, 0] - drawn[1, 1]).max() > 0.1


@pytest.mark.parametrize("coupling", couplings.COUPLINGS)
def test_alpha_at_its_ends(clip, pairs, coupling):
    slow = flat(resonate(clip, *pairs, coupling=coupling, alpha=1e-6, iterations=3))
    assert np.abs(slow - slow[:, :1]).max() < 64 * 3e-6
    fast = flat(resonate(clip, *pairs, coupling=coupling, alpha=1.999, iterations=8))
    assert np.isfinite(fast).all() and np.abs(fast).max() < 64 * 2 * 8
    # Next to 2, where the map is overshot to its mirror image, it goes to and fro.
    step = np.diff(fast[1], axis=0)
    assert (step[1:] * step[:-1] < 0).mean() > 0.6


def test_the_dataset_is_of_its_schema_and_says_how_it_was_made(clip, pairs, tmp_path):
    scenes = xk.draw_scenes(3, seed=2).assign_coords(sample=[4, 7, 9])
    found = resonate(clip, scenes.image, scenes.caption, alpha=np.float32(0.5), iterations=np.int64(9))
    store.write(found, tmp_path / "a.nc", "resonance")
    assert found.trajectory.dims == ("sample", "time", "token", "row", "col") and found.trajectory.dtype == np.float32
    assert found.sample.values.tolist() == [4, 7, 9] and found.time.values.tolist() == list(range(10))
    assert (found.token_text.values == scenes.token_text.values[:, : found.sizes["token"]]).all()
    about = json.loads(found.attrs["provenance"])
    assert about["model"] == "tiny-clip" and about["weights_digest"] == clip.weights_digest
    assert about["parameters"] == dataclasses.asdict(Recursion(alpha=0.5, iterations=9))


BAD = [
    ({"alpha": 0}, "alpha=0: a number above 0 and below 2"),
    ({"alpha": 2.0}, "alpha=2.0: a number above 0 and below 2"),
    ({"alpha": float("nan")}, "alpha=nan: a number above 0 and below 2"),
    ({"alpha": "0.5"}, "alpha='0.5': a number above 0"),
    ({"alpha": True}, "alpha=True: a number above 0"),
    ({"coupling": "encoders"}, "coupling='encoders': choose from none, attention, encoder"),
    ({"start": "zero"}, "start='zero': choose from uniform, cosine, random"),
    ({"iterations": 0}, "iterations=0: a whole number"),
    ({"iterations": 20.0}, "iterations=20.0: a whole number"),
    ({"seed": -1}, "seed=-1: a whole number of at least 0"),
    ({"temperature": 0}, "temperature=0: a number above 0"),
    ({"temperature": float("nan")}, "temperature=nan: a number above 0"),
    ({"temperature": float("inf")}, "temperature=inf: a number above 0"),
    ({"temperature": 0.5, "coupling": "none"}, "temperature=0.5: coupling='none' has no softmax"),
    ({"coupling": "encoder", "block": 6}, "block=6: a whole number from -"),
    ({"speed": 1}, "unknown option 'speed' of"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_one_sentence_for_a_wrong_option(clip, pairs, options, message):
    refused(message, resonate, clip, *pairs, **options)
    for name in ("srm", "srm_fixed_point"):
        refused(message, xk.explain, name, clip, *pairs, **options)


def test_one_sentence_for_the_rest(clip, pairs, monkeypatch):
    monkeypatch.setattr(recursions, "features", lambda *args: pytest.fail("work was done"))
    refused("words='first': choose from all, last", resonate, clip, *pairs, words="first")
    for run in (resonate, patch_features):
        refused("batch_size=0: a whole number of at least 1", run, clip, *pairs, batch_size=0)
        refused("3 images but 2 texts", run, clip, pairs[0], pairs[1][:2])
    refused("iterations=7: a whole number of at least 8", xk.explain, "srm", clip, *pairs, iterations=7)
    refused("unknown option 'word' of srm", xk.explain, "srm", clip, *pairs, word="last")
    says = "of='text': srm_fixed_point explains the image only.*srm"
    refused(says, xk.explain, "srm_fixed_point", clip, *pairs, of="text")


def test_ids_without_a_word_are_refused():
    clip = small_clip("small-vit")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    empty = torch.tensor([[1, 63, *[0] * 10]])
    for ids, index in ((torch.cat([IDS[:1], empty]), 1), (torch.zeros(2, 12, dtype=torch.long), 0)):
        message = f"^text {index} has no token besides start, end and padding: a prompt of at least one word is needed$"
        refused(message, resonate, clip, pixels, ids)
        for name in ("srm", "srm_fixed_point"):
            refused(message, xk.explain, name, clip, pixels, ids)


def test_a_bad_sample_is_kept_with_its_reason(clip):
    images = [*xk.draw_scenes(2, seed=2).image.values, np.zeros((4, 4))]
    found = resonate(clip, images[::-1], [LONG, SHORT, "a blue whale"], errors="record", iterations=2)
    reasons = found.error.values
    assert "image 0" in reasons[0] and reasons[1] == "" and "text 2" in reasons[2] and "'whale'" in reasons[2]
    assert found.sizes["token"] == 3 and found.token_text.values[1].tolist() == ["a", "red", "ring"]
    assert (found.token_text.values[[0, 2]] == "").all()
    assert (found.trajectory.values[[0, 2]] == 0).all()
    np.testing.assert_allclose(flat(found)[1], flat(resonate(clip, images[1:2], SHORT, iterations=2))[0], atol=1e-5)
    refused("image 0", resonate, clip, images[::-1], LONG)
    none = "no sample can be explained; the first one: image 0"
    refused(none, resonate, clip, images[2:], LONG, errors="record")
    refused("errors='skip': choose from raise, record", resonate, clip, images[:2], LONG, errors="skip")


def test_patch_features_are_the_models_own(clip, pairs):
    """Its final norm and projection, of each patch alone, whatever the words and batches are."""
    found = patch_features(clip, *pairs)
    expected = by_hand(clip, *pairs)[0]
    assert found.dims == ("sample", "patch", "width") and found.shape == (3, 64, clip.model.visual.proj.shape[1])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(patch_features(clip, *pairs, batch_size=2), found, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(patch_features(clip, pairs[0], "a red ring"), found, rtol=1e-4, atol=1e-5)
    scenes = xk.draw_scenes(3, seed=2).assign_coords(sample=[4, 7, 9])
    named = patch_features(clip, scenes.image, scenes.caption)
    assert named.sample.values.tolist() == [4, 7, 9]
    np.testing.assert_allclose(named, found, rtol=1e-4, atol=1e-5)
    other = small_clip("small-vit")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = other.model.visual(pixels)
    assert patch_features(other, pixels, IDS).shape == (2, 16, whole.shape[-1])


def test_patch_features_lie_in_reading_order(clip):
    """A model of which no token attends to another: a bright patch changes its own features alone."""
    blind = copied(clip)
    with torch.no_grad():
        for block in blind.model.visual.transformer.resblocks:
            block.attn.out_proj.weight.zero_()
    pixels = torch.zeros(2, 3, 64, 64)
    pixels[1, :, 16:24, 40:48] = 1  # row 2, column 5 of 8 x 8
    found = patch_features(blind, pixels, SHORT)
    changed = np.abs(found[1] - found[0]).max("width").values
    assert np.flatnonzero(changed > 1e-4).tolist() == [2 * 8 + 5]


def test_pairs_in_batches(clip):
    scenes = xk.draw_scenes(3, seed=2).assign_coords(sample=[4, 7, 9])
    found = Pairs(clip, scenes.image, [SHORT, "", LONG], "record")
    assert len(found) == 3 and found.good == [0, 2] and found.labels.tolist() == [4, 7, 9]
    (first, ids), (second, _) = found.batches(1)
    assert torch.equal(torch.cat([first, second]), clip.pixels(scenes.image.values[[0, 2]]))
    assert torch.equal(ids, clip.tokens(SHORT))
    spread = found.spread(torch.tensor([[1.0], [2.0]]))
    assert spread.tolist() == [[1], [0], [2]]
    assert found.words(9)["token_text"][1][:, 2].tolist() == ["ring", "", "blue"]
    assert join([torch.ones(1, 2, 1), torch.ones(2, 3, 1)], 1)[:, :, 0].tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    ("coupling", "words"), [*((name, "all") for name in couplings.COUPLINGS), ("attention", "last")]
)
def test_srm_is_the_energy_of_the_trajectory(clip, pairs, coupling, words):
    options = {"coupling": coupling, "alpha": 1.4, "iterations": 9, "start": "random", "seed": 2, "words": words}
    if coupling == "encoder":
        options |= {"temperature": 0.3, "block": -1}
    values = torch.from_numpy(resonate(clip, *pairs, **options).trajectory.values)
    energy = resonance_energy(values, dim=1).numpy()
    assert energy.max() > 0
    image = xk.explain("srm", clip, *pairs, **options)
    assert image.shape == (3, 8, 8)
    np.testing.assert_allclose(image, energy.sum(1), rtol=1e-4, atol=1e-6 * energy.max())
    text = xk.explain("srm", clip, *pairs, of="text", **options)
    expected = energy.sum((2, 3)) / energy.sum((1, 2, 3))[:, None]
    np.testing.assert_allclose(text, expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(text.sum("token"), 1, atol=1e-5)
    assert (text.values[0, 3:] == 0).all() and text.token_text.values[0].tolist() == ["a", "red", "ring", *[""] * 6]
    last = xk.explain("srm_fixed_point", clip, *pairs, **options).values
    count = np.array([3, 9, 3] if words == "all" else [1, 1, 1])[:, None, None]
    np.testing.assert_allclose(last, values[:, -1].numpy().sum(1) / count, rtol=1e-4, atol=1e-5)


def test_the_controls_of_srm_need_no_spectrum(clip, pairs):
    """The last map without its constant and squared, and how far the maps have moved: sums over words of what resonate gives."""
    maps = resonate(clip, *pairs).trajectory.values.astype(float)
    last, words = maps[:, -1], np.array([3, 9, 3])[:, None, None]
    lowest = last.min((2, 3), keepdims=True)
    expected = {
        ("srm_fixed_point", ("floored",)): last.sum(1) / words,
        ("srm_fixed_point", ("squared",)): (last**2).sum(1) / words,
        ("srm_fixed_point", ("floored", "squared")): ((last - lowest) ** 2).sum(1) / words,
        ("srm_displacement", ()): ((last - maps[:, 0]) ** 2).sum(1),
        ("srm_displacement", ("summed",)): ((last[:, None] - maps) ** 2).sum((1, 2)),
    }
    for (name, options), values in expected.items():
        found = xk.explain(name, clip, *pairs, **dict.fromkeys(options, True)).values
        values = values - values.min((1, 2), keepdims=True) if "floored" in options else values
        np.testing.assert_allclose(found, values, rtol=1e-3, atol=1e-4 * values.max())
    assert (xk.explain("srm_fixed_point", clip, *pairs, floored=True).min(("row", "col")) == 0).all()
    refused("unknown option 'floored' of srm_displacement", xk.explain, "srm_displacement", clip, *pairs, floored=True)


@pytest.mark.parametrize("name", ABLE)
def test_every_family_without_a_pooling_layer(name):
    clip = small_clip(name)
    assert shares_space(clip)
    pixels = torch.randn(2, 3, *clip.image_size, generator=torch.Generator().manual_seed(0))
    for coupling in couplings.COUPLINGS:
        found = resonate(clip, pixels, IDS, coupling=coupling, iterations=2, words="last")
        rows = clip.image_size[0] // (14 if "eva" in name else 8)
        assert found.trajectory.shape == (2, 3, 4, rows, rows) and np.isfinite(found.trajectory).all()
        assert found.trajectory.values[0, :, 1].std() > 0
        heat = xk.explain("srm", clip, pixels[:1], IDS[:1, :], coupling=coupling, iterations=8)
        assert (heat > 0).all()
        assert np.isfinite(xk.explain("srm_fixed_point", clip, pixels, IDS, coupling=coupling, iterations=1)).all()


@pytest.mark.parametrize("name", UNABLE)
def test_a_tower_that_pools_by_attention_is_refused(name):
    clip = small_clip(name)
    assert not shares_space(clip)
    pixels = torch.zeros(1, 3, *clip.image_size)
    for method in ("srm", "srm_fixed_point"):
        others = "methods that can are(?!.*srm).*centre"
        refused(
            f"^{method} can't explain the image tower of {name}.*{others}", xk.explain, method, clip, pixels, IDS[:1]
        )
    for run in (resonate, patch_features):
        refused(f"the image tower of {name} pools its patches by attention", run, clip, pixels, IDS[:1])


def test_blocks_that_need_more_than_their_tokens_do_not_run_again():
    """EVA-02 turns queries and keys by their place. Random weights hardly attend, so they are made to."""
    clip = small_clip("small-eva02")
    pixels = torch.randn(1, 3, *clip.image_size, generator=torch.Generator().manual_seed(0))
    strong = copied(clip)
    with torch.no_grad():
        for block in strong.model.visual.trunk.blocks:
            for weight in block.attn.parameters():
                weight *= 4
    message = "coupling='encoder': the blocks of small-eva02 need more than their tokens .*; use 'attention' or 'none'"
    refused(message, resonate, strong, pixels, IDS[:1], coupling="encoder", iterations=1)
    resonate(strong, pixels, IDS[:1], coupling="attention", iterations=1)


def test_prompts_of_the_usual_tokenizer(monkeypatch):
    """77 tokens of words in pieces, of which the longest prompt has 75 of its own."""
    usual = {**small_models.TEXT, "context_length": 77, "vocab_size": 49408}
    config = {"embed_dim": 24, "vision_cfg": small_models.VISION, "text_cfg": usual}
    monkeypatch.setitem(small_models.CONFIGS, "small-usual", config)
    clip = small_clip("small-usual")
    pixels = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    texts = [*["a red ring"] * 7, " ".join(["hippopotamus"] * 25)]
    for coupling in couplings.COUPLINGS:
        found = resonate(clip, pixels, texts, coupling=coupling, iterations=2)
        assert found.trajectory.shape == (8, 3, 75, 4, 4) and np.isfinite(found.trajectory).all()
        assert (found.trajectory.std(("row", "col"))[:, 1:] > 0).sum() == (7 * 3 + 75) * 2
        assert found.token_text.values[7, :3].tolist() == ["hippo", "potam", "us"]
