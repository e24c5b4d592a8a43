"""ROAD: the imputation against a direct solution of its linear system, and whose maps it calls faithful."""

import numpy as np
import pytest
import torch
from refusals import refused
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve

import xaikit as xk
from xaikit.evaluation.imputation import NEIGHBOURS, imputed, road


def solved(image, keep):
    """The system of the paper, pixel by pixel: what is removed is the weighted mean of the neighbours that there are."""
    height, width = keep.shape
    matrix, right = lil_matrix((height * width, height * width)), np.zeros(height * width)
    for y, x in np.ndindex(height, width):
        row = y * width + x
        matrix[row, row] = 1
        if keep[y, x]:
            right[row] = image[y, x]
            continue
        near = [(y + a, x + b, NEIGHBOURS[a + 1][b + 1]) for a in (-1, 0, 1) for b in (-1, 0, 1)]
        near = [each for each in near if 0 <= each[0] < height and 0 <= each[1] < width and each[2]]
        for at, across, weight in near:
            matrix[row, at * width + across] = -weight / sum(each[2] for each in near)
    return spsolve(matrix.tocsr(), right).reshape(height, width)


@pytest.mark.parametrize("size, share", [(32, 0.25), (32, 0.75), (64, 0.5)])
def test_imputation_solves_the_papers_system(size, share):
    draw = np.random.default_rng(0)
    image = draw.normal(size=(size, size))
    keep = np.kron(draw.random((8, 8)) >= share, np.ones((size // 8, size // 8))).astype(bool)
    given = torch.from_numpy(image)[None, None].expand(1, 3, size, size)
    found = imputed(given, torch.from_numpy(keep)[None])[0]
    np.testing.assert_allclose(found[0].numpy(), solved(image, keep), atol=0.02)
    assert torch.equal(found[:, torch.from_numpy(keep)], given[0][:, torch.from_numpy(keep)])


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_says_what_single_does(clip, precision):
    half, scenes = xk.load_clip("tiny-clip", precision=precision), xk.draw_scenes(4, seed=4)
    heat = np.random.default_rng(0).random((4, 2, 8, 8))
    for single, coarse in zip(
        *(road(each, heat, each.pixels(scenes.image), each.tokens(scenes.caption), 3) for each in (clip, half)),
        strict=True,
    ):
        np.testing.assert_allclose(coarse, single, atol=0.03)


def test_ends_of_imputation():
    image = torch.randn(1, 3, 32, 32)
    nothing = torch.zeros(1, 32, 32, dtype=torch.bool)
    assert torch.equal(imputed(image, ~nothing), image) and not imputed(image, nothing).any()


def test_a_map_of_the_truth_beats_noise_and_its_own_opposite(clip):
    scenes = xk.draw_scenes(16, seed=4, objects=(2, 3))
    truth = (scenes.object_mask & scenes.object_named).any("object").coarsen(y=8, x=8).mean().values
    noise = np.random.default_rng(0).random(truth.shape)
    heat = np.stack([truth + 1e-3 * noise, noise, -truth - 1e-3 * noise], 1)
    pixels, tokens = clip.pixels(scenes.image), clip.tokens(scenes.caption)
    share, hottest, coldest = road(clip, heat, pixels, tokens)
    assert share.tolist() == [0, 0.25, 0.5, 0.75] and hottest.shape == coldest.shape == (16, 3, 4)
    gap = (coldest - hottest).mean((0, 2))
    assert gap[0] > gap[1] + 0.05 > gap[2]
    np.testing.assert_allclose(hottest[..., 0], coldest[..., 0])  # the whole image
    np.testing.assert_allclose(hottest[:, 0], coldest[:, 2], atol=1e-5)
    again = road(clip, heat, pixels, tokens, batch_size=7)
    np.testing.assert_allclose(again[1], hottest, atol=1e-5)
    refused("steps=99", road, clip, heat, pixels, tokens, 99)
