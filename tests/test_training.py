"""The training code: labels agree with the scenes, the loss with its formula, and a seed fixes the weights."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import training
from training.batches import contrastive_loss, draw_batch
from training.bundled import new_model, save, word_tokenizer

import xaikit as xk

SHORT = replace(training.Recipe(), steps=3, warmup_steps=1, batch_size=6, report_every=3, threads=1)


@pytest.fixture(scope="module")
def batch():
    return draw_batch(np.random.default_rng(0), replace(SHORT, batch_size=64), word_tokenizer())


def test_what_captions_say_is_in_the_image_labels(batch):
    """A true caption's labels of 1 are 1 in its image's labels too, whatever its kind."""
    said = batch.text_target[:64]
    assert ((said == 1) <= (batch.image_target == 1)).all()
    assert (batch.truth[:64].diagonal() == 1).all()


def test_swapped_captions_are_extra_negatives(batch):
    two = batch.said.colour[:, 1] >= 0
    assert len(batch.tokens) == 64 + 2 * two.sum() == len(batch.truth)
    related = torch.from_numpy(np.flatnonzero(batch.said.relation[two] >= 0))
    images = torch.from_numpy(np.flatnonzero(two))[related]
    assert (batch.truth[64:][related, images] == 0).all()


def test_patches_outside_all_objects_are_background(batch):
    shape, colour, right, lower = batch.patch_labels.unbind(-1)
    assert ((shape == 0) == (colour == 0)).all() and ((shape > 0) == (right >= 0)).all()
    assert 0.5 < (shape == 0).float().mean() < 0.95
    column = torch.arange(64) % 8
    assert (right[:, column == 0].max() < 1) and (right[:, column == 7].unique().tolist() in ([-1, 1], [1]))
    assert lower.max() == 1


def test_the_loss_is_infonce_with_joint_positives():
    similarity = torch.tensor([[2.0, 0.0], [1.0, 3.0], [0.5, 0.5]])
    true = torch.tensor([[1, 0], [1, 1], [0, -1]], dtype=torch.int8)
    e = similarity.exp()
    to_image = [-(e[0, 0] / e[0].sum()).log(), torch.tensor(0.0)]
    to_text = [-((e[0, 0] + e[1, 0]) / e[:, 0].sum()).log(), -(e[1, 1] / (e[0, 1] + e[1, 1])).log()]
    torch.testing.assert_close(contrastive_loss(similarity, true), (sum(to_image) / 2 + sum(to_text) / 2) / 2)


@pytest.fixture(scope="module")
def trained():
    """Two runs of one seed and one of another, each with its log; the curve is of few scenes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training.clip, "validate", partial(training.validate, n=16))
        return [training.train(replace(SHORT, seed=seed), progress=False) for seed in (0, 0, 5)]


def test_a_seed_fixes_the_weights(trained):
    first, again, other = (model.state_dict() for model, _ in trained)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_saved_model_is_whole(trained, tmp_path):
    model, log = trained[0]
    save(model, log, (SHORT,), tmp_path)
    clip = xk.load_clip(f"local-dir:{tmp_path}")
    assert all(torch.equal(weight, clip.model.state_dict()[name]) for name, weight in model.state_dict().items())
    assert not any(name.startswith("patch") for name in clip.model.state_dict())


def test_tokens_end_with_the_highest_id():
    ids = word_tokenizer()("a red ring", padding="max_length", max_length=20).input_ids
    assert max(ids) == ids[4] == new_model().vocab_size - 1 and ids[5:] == [0] * 15


def test_an_unknown_bundled_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown bundled model 'huge-clip'"):
        training.retrain("huge-clip", tmp_path)
