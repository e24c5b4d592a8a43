"""The training code: labels agree with the scenes, the loss with its formula, a seed fixes the weights, an interruption changes
nothing, and what is saved loads without us."""

import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import training
from training.batches import Heads, contrastive_loss, draw_batch, draw_crops, draw_texts, swap_loss
from training.bundled import CROPS, SCENES, SEEN_STYLES, TEXTS, THINGS, Architecture, Bundled, save
from training.clip import say, see

import xaikit as xk
from xaikit.evaluation.retrieval import embed_images, embed_texts, recall_at_1
from xaikit.samples import find_world
from xaikit.samples.worlds.layout import COLOURS, RELATIONS
from xaikit.samples.worlds.things import HELD_OUT

QUICK = dict(steps=3, warmup_steps=1, batch_size=6, report_every=3)
SHORT = replace(training.Recipe(), **QUICK)
SMALL = replace(THINGS, layers=2, text_layers=1)
# Texts, crops, then scenes of which a part of the patches is read, as things are taught.
THINGS_SHORT = Bundled(SMALL, (replace(TEXTS, **QUICK), replace(CROPS, **QUICK, window=4), replace(SCENES, **QUICK)))
RECIPES = {"shapes": (Architecture(), SHORT), "things": (SMALL, replace(SCENES, **QUICK))}


def drawn(world, **changes):
    """A batch of a world, and the heads that it was labelled for."""
    architecture, recipe = RECIPES[world]
    heads = Heads(architecture)
    recipe = replace(recipe, batch_size=64, **changes)
    return draw_batch(np.random.default_rng(0), architecture, recipe, architecture.tokenizer(), heads), heads


@pytest.fixture(scope="module", params=RECIPES)
def world(request):
    return request.param


@pytest.fixture(scope="module")
def batch(world):
    return drawn(world, patch_halves=True)[0]


def test_what_captions_say_is_in_the_image_labels(batch):
    """A true caption's labels of 1 are 1 in its image's labels too, whatever its kind."""
    said = batch.text_target[:64]
    assert ((said == 1) <= (batch.image_target == 1)).all()
    assert (batch.truth[:64].diagonal() == 1).all()


def test_swapped_captions_are_extra_negatives(batch):
    two = batch.said.noun[:, 1] >= 0
    assert len(batch.tokens) == 64 + 2 * two.sum() == len(batch.truth)
    related = torch.from_numpy(np.flatnonzero(batch.said.relation[two] >= 0))
    images = torch.from_numpy(np.flatnonzero(two))[related]
    assert len(related) > 5 and (batch.truth[64:][related, images] == 0).all()


def test_patches_outside_all_objects_are_background(world, batch):
    noun, colour, right, lower = batch.patch_labels.unbind(-1)
    assert ((noun == 0) <= (colour == 0)).all() and ((noun > 0) == (right >= 0)).all()
    assert world == "things" or ((noun == 0) == (colour == 0)).all()
    assert 0.4 < (noun == 0).float().mean() < 0.95
    grid = RECIPES[world][0].grid
    column = torch.arange(grid**2) % grid
    assert (right[:, column == 0].max() < 1) and (right[:, column == grid - 1].unique().tolist() in ([-1, 1], [1]))
    assert lower.max() == 1


def test_labels_of_patches_are_the_objects_of_the_image(world, batch):
    """What is under some patch is in the image, and in an image the nouns under patches are nearly all that are there."""
    present = batch.image_target.unflatten(1, (-1, len(find_world(world).nouns)))[:, 0]
    under = torch.zeros_like(present)
    for row, labels in enumerate(batch.patch_labels[..., 0]):
        under[row, labels[labels > 0] - 1] = 1
    assert (under <= present).all() and under.sum() > 0.9 * present.sum()
    colours = batch.image_target.unflatten(1, (-1, present.shape[1]))[:, -len(COLOURS) :].any(-1)
    for row, labels in enumerate(batch.patch_labels[..., 1]):
        assert colours[row, labels[labels > 0] - 1].all()


def test_crops_show_one_object_each():
    architecture, recipe = SMALL, replace(CROPS, **QUICK, window=4)
    heads = Heads(architecture)
    pixels, labels, target = draw_crops(np.random.default_rng(1), architecture, replace(recipe, batch_size=40), heads)
    assert pixels.shape == (40, 3, 4 * architecture.patch, 4 * architecture.patch)
    nouns = target.unflatten(1, (heads.groups, -1))
    assert (nouns[:, 0].sum(-1) == 1).all() and not nouns[:, 1:5].any(), "without halves"
    for row, of_patches in zip(nouns[:, 0].argmax(-1), labels[..., 0], strict=True):
        assert set(of_patches.tolist()) <= {-1, 0, row.item() + 1} and (of_patches > 0).any()
    assert (labels[..., 2:] == -1).all()


def test_texts_alone_say_relations_one_way_first():
    """At first "left of" and "above" alone, then all four; the targets have what is said, nouns in halves too."""
    tokenizer, heads, recipe = SMALL.tokenizer(), Heads(SMALL), replace(TEXTS, batch_size=100, templates=("{}",))
    for one_way, expected in ((True, {"left of", "above"}), (False, {"left of", "right of", "above", "below"})):
        tokens, target = draw_texts(np.random.default_rng(2), SMALL, recipe, tokenizer, heads, one_way)
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        said = [next((each for each in RELATIONS if f" {each} " in text), "") for text in texts]
        assert {each for each in said if each} == expected
        nouns, count = heads.nouns, 0
        for text, relation, wanted in zip(texts, said, target.unflatten(1, (heads.groups, nouns)), strict=True):
            if not relation:
                assert not one_way and not wanted[1:5].any()
                continue
            half = RELATIONS.index(relation)  # as the halves are ordered: left, right, upper, lower
            first, second = text.split(f" {relation} ")
            for part, index in ((first, half), (second, half ^ 1)):
                (noun,) = wanted[1 + index].nonzero().flatten().tolist()
                assert part.endswith(find_world("things").nouns[noun])
                count += 1
        assert count > 50


def test_texts_alone_train_no_vision_tower():
    trained = training.Training(Bundled(SMALL, (replace(TEXTS, **QUICK),)), False)
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    model, _ = trained.run()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert "text_projection" in moved and not any(name.startswith("visual") for name in moved)


def test_the_loss_of_swaps_is_the_softplus_of_what_the_false_caption_has_more():
    """Of two scenes; one has a swapped relation, true by chance and so left out, and both have swapped colours."""
    similarity = torch.tensor([[2.0, 0.0], [0.0, 3.0], [9.0, 9.0], [0.5, 0.0], [4.0, 1.0], [0.0, 5.0]])
    true = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 0], [0, 0], [0, 0]], dtype=torch.int8)
    own = torch.tensor([0, 1, 0, 1, 0, 1])
    relations = F.softplus(torch.tensor(0.0 - 3.0))
    colours = F.softplus(torch.tensor([4.0 - 2.0, 5.0 - 3.0])).mean()
    torch.testing.assert_close(swap_loss(similarity, true, own), relations + colours)


def test_patches_under_objects_are_kept_more_often():
    rng, model = np.random.default_rng(0), SMALL.new_model()
    model.visual.output_tokens = True
    weight = np.ones((40, SMALL.grid**2))
    weight[:, :20] = 9
    _, _, kept = see(model, torch.zeros(40, 3, 96, 96), rng, SMALL.grid, 0.25, weight)
    assert kept.shape == (40, 36) and all(len(set(row.tolist())) == 36 for row in kept)
    assert (kept < 20).float().mean() > 0.4, "of 36 of 144 patches a draw without focus has 14 %"


def test_no_text_is_cut_and_every_word_known(world):
    architecture, _ = RECIPES[world]
    tokenizer = architecture.tokenizer()
    # What stands around the caption only makes it longer: without it, it fits all the more.
    captions = xk.draw_scenes(400, 1, objects=(3, 4), world=world, size=32, template="a picture of {}").caption.values
    ids = tokenizer(list(captions)).input_ids
    assert max(map(len, ids)) <= architecture.context
    assert not any(tokenizer.unk_token_id in each for each in ids)


def test_the_loss_is_infonce_with_joint_positives():
    similarity = torch.tensor([[2.0, 0.0], [1.0, 3.0], [0.5, 0.5]])
    true = torch.tensor([[1, 0], [1, 1], [0, -1]], dtype=torch.int8)
    e = similarity.exp()
    to_image = [-(e[0, 0] / e[0].sum()).log(), torch.tensor(0.0)]
    to_text = [-((e[0, 0] + e[1, 0]) / e[:, 0].sum()).log(), -(e[1, 1] / (e[0, 1] + e[1, 1])).log()]
    torch.testing.assert_close(contrastive_loss(similarity, true), (sum(to_image) / 2 + sum(to_text) / 2) / 2)


@pytest.fixture(scope="module", autouse=True)
def few_scenes():
    """The curve of training is of few scenes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training.clip, "validate", partial(training.validate, n=16))
        yield


@pytest.fixture(scope="module")
def undisturbed():
    """Things, trained in two stages without a break: model and log."""
    return training.Training(THINGS_SHORT, False).run()


def same_weights(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("done", [2, 3, 4])
def test_an_interrupted_training_ends_as_an_undisturbed_one(undisturbed, tmp_path, done):
    """Interrupted within a stage, at its end, and in the next one."""
    broken = training.Training(THINGS_SHORT, False)
    for _ in range(done):
        if broken.step == broken.recipe.steps:
            broken.begin(broken.stage + 1)
        broken.one_step()
    broken.keep(tmp_path)
    model, log = training.Training(THINGS_SHORT, False).run(tmp_path)
    assert same_weights(model, undisturbed[0]) and log.equals(undisturbed[1])
    assert len(list(tmp_path.glob("checkpoint-*"))) == 1


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    training.Training(THINGS_SHORT, False).keep(tmp_path)
    with pytest.raises(ValueError, match="is of another model or recipe: delete it, or choose another folder"):
        training.Training(THINGS_SHORT.plain(), False).run(tmp_path)


def test_a_plain_model_is_taught_nothing_about_patches(undisturbed):
    plain = training.Training(THINGS_SHORT.plain(), False)
    start = plain.heads.patch.weight.clone()
    model, log = plain.run()
    heard, taught = log.patch_heads.dropna(), undisturbed[1].patch_heads.dropna()
    assert (heard == 0).all() and (taught > 0).all() and len(heard) == len(taught) == 2, "of texts alone there are none"
    assert torch.equal(plain.heads.patch.weight, start) and not same_weights(model, undisturbed[0])
    assert plain.heads.pooled.weight.grad is not None and plain.heads.patch.weight.grad is None


def test_seeds_of_a_model_share_nothing():
    first, other = (training.Training(bundled, False) for bundled in (THINGS_SHORT, THINGS_SHORT.seeded(1)))
    assert not same_weights(first.model, other.model)
    assert len({stage.seed for bundled in (THINGS_SHORT, THINGS_SHORT.seeded(1)) for stage in bundled.stages}) == 6


def test_a_saved_model_is_whole(tmp_path):
    bundled = Bundled(Architecture(), (SHORT,))
    model, log = training.Training(bundled, False).run()
    save(bundled, model, log, tmp_path)
    clip = xk.load_clip(f"local-dir:{tmp_path}")
    assert same_weights(model, clip.model)
    assert not any(name.startswith("patch") for name in clip.model.state_dict())


ALONE = """
import sys, open_clip, torch
model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{sys.argv[1]}")
tokens = open_clip.get_tokenizer(f"local-dir:{sys.argv[1]}")(["a photo of a red car left of an ice cream"])
torch.save((model.eval().state_dict(), tokens, preprocess.transforms[0].size), sys.argv[2])
assert not any(name.startswith("xaikit") for name in sys.modules)
"""


def test_a_saved_model_of_half_the_precision_loads_by_open_clip_alone(undisturbed, tmp_path):
    model, log = undisturbed
    save(THINGS_SHORT, model, log, tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, tmp_path / "model", tmp_path / "out"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    weights, tokens, size = torch.load(tmp_path / "out")
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weights[name], weight.half().float(), rtol=0, atol=0)
    known = THINGS_SHORT.architecture.tokenizer()
    assert known.unk_token_id not in tokens and set(size if isinstance(size, tuple | list) else [size]) == {96}
    stored = (tmp_path / "model" / "open_clip_model.safetensors").stat().st_size
    assert stored < 2.2 * sum(weight.numel() for weight in model.state_dict().values())


@torch.no_grad()
def test_both_towers_are_those_of_open_clip(undisturbed):
    """Read without padding, and from all patches, the embeddings are open_clip's own."""
    model, _ = undisturbed
    architecture = THINGS_SHORT.architecture
    scenes = xk.draw_scenes(5, 1, world="things", objects=(1, 4))
    tokens = architecture.tokenizer()(list(scenes.caption.values), padding="longest", return_tensors="pt").input_ids
    whole = torch.nn.functional.pad(tokens, (0, architecture.context - tokens.shape[1]))
    torch.testing.assert_close(say(model, tokens), model.encode_text(whole, normalize=True), atol=1e-5, rtol=1e-4)
    pixels = training.batches.to_pixels(scenes.image.values)
    pooled, patches, chosen = see(model, pixels, np.random.default_rng(0), architecture.grid)
    torch.testing.assert_close(pooled, model.visual(pixels), atol=1e-5, rtol=1e-4)
    assert patches.shape[:2] == (5, architecture.grid**2) and (chosen == torch.arange(architecture.grid**2)).all()
    _, few, kept = see(model, pixels, np.random.default_rng(0), architecture.grid, 0.4)
    assert few.shape[1] == kept.shape[1] == round(0.4 * architecture.grid**2)
    assert all(len(set(row.tolist())) == len(row) for row in kept)


def test_tokens_end_with_the_highest_id(world):
    architecture, _ = RECIPES[world]
    text = {"shapes": "a red ring", "things": "a red car"}[world]
    ids = architecture.tokenizer()(text, padding="max_length", max_length=20).input_ids
    assert max(ids) == ids[4] == architecture.new_model().vocab_size - 1 and ids[5:] == [0] * 15


def test_an_unknown_bundled_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown bundled model 'huge-clip'"):
        training.retrain("huge-clip", tmp_path)


def test_a_model_is_trained_by_its_name(tmp_path, monkeypatch, undisturbed):
    monkeypatch.setitem(training.MODELS, "tiny", THINGS_SHORT)
    training.retrain("tiny", tmp_path, progress=False)
    half = {name: weight.half().float() for name, weight in undisturbed[0].state_dict().items()}
    found = xk.load_clip(f"local-dir:{tmp_path}").model.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in half.items())
    assert not (tmp_path / "checkpoint").exists() and (tmp_path / "training_log.csv").is_file()


@pytest.fixture(scope="module")
def of_things():
    return xk.load_clip("tiny-clip-things")


def test_the_bundled_model_of_things_names_them(of_things):
    """In the styles that it was trained on, and much less in that which it never saw."""

    def right(**drawing):
        source = xk.open_source("planted", 96, 7, "classes", world="things", **drawing)
        drawn = source.inputs()
        scores = embed_images(of_things, drawn.image) @ embed_texts(of_things, source.prompts).T
        return (scores.argmax(1).numpy() == drawn.class_index.values).mean()

    assert right(styles=SEEN_STYLES) > 0.95 and 0.2 < right(styles=HELD_OUT) < 0.8


def test_the_bundled_model_of_things_reads_captions(of_things):
    """Who is left of whom, whose colour is whose, and what is there."""
    drawing = {"world": "things", "styles": SEEN_STYLES}
    scenes = xk.draw_scenes(128, 8, (2, 2), "relation", **drawing)
    assert recall_at_1(of_things, scenes)["image_to_text"] > 0.95
    for kind in ("relation", "attribute", "subject"):
        assert xk.evaluation.recognised(of_things, xk.draw_pairs(kind, 32, 9, (2, 2), **drawing)).mean() > 0.93
