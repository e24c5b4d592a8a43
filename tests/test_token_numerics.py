"""The numerics of TAM, MSEA and ARC: the released function's own numbers, closed forms, planted maps, invariances."""

from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import torch
from refusals import refused

from xaikit.mllm import numerics
from xaikit.mllm.numerics import (
    WEIGHTINGS,
    aggregate,
    context_mask,
    context_weights,
    joint_normalisation,
    overlap_matrix,
    rank_gaussian_filter,
    released_tam,
    remove_interference,
    top_ids,
)

GOLDEN = np.load(Path(__file__).parent / "golden" / "tam.npz")
IMAGE_ID, IMAGE_END = 34, 37


def random(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def golden_case(case):
    """Arguments of ``released_tam`` and what the released function returned."""
    names = ("tokens", "logits", "grid", "n_prompt", "input_length", "maps")
    tokens, logits, grid, n_prompt, length, maps = (torch.tensor(GOLDEN[f"case{case}__{name}"]) for name in names)
    start = int((tokens == IMAGE_END).nonzero()[0, 0]) + 1
    image, prompt = (tokens == IMAGE_ID).nonzero()[:, 0], torch.arange(start, start + int(n_prompt))
    return (tokens, logits, tuple(grid.tolist()), int(length), image, prompt), maps


def corrected_tam(tokens, logits, grid, input_length, image, prompt):
    """TAM without quirks, out of the public parts: every word explained for its own id, one scale, no rank overlap."""
    positions = torch.cat([prompt, torch.arange(input_length - 1, len(tokens) - 1)])
    words = torch.cat([tokens[prompt], tokens[input_length:]])[None]
    is_answer, real = (torch.arange(words.shape[1]) >= len(prompt))[None], torch.ones_like(words, dtype=torch.bool)
    maps = aggregate([logits[image][:, words[0]].relu().T.reshape(1, -1, *grid)])
    relevance = logits[positions][:, words[0]].relu().T[None]
    maps = remove_interference(maps, "relevance", relevance, None, context_mask(words, is_answer, real))
    maps = joint_normalisation(maps, relevance, context_mask(words, is_answer, real, repeated=True))
    return (255 * rank_gaussian_filter(maps)).to(torch.uint8)[0, len(prompt) :]


def sequence(seed=0, n_prompt=4, n_answer=6, vocabulary=40, grid=(5, 7)):
    """Arguments of ``released_tam``: image, prompt and answer in which no word repeats, and random logits."""
    cells = grid[0] * grid[1]
    generator = torch.Generator().manual_seed(seed)
    words = torch.randperm(30, generator=generator)
    image = torch.tensor([36] + [IMAGE_ID] * cells + [IMAGE_END])
    tokens = torch.cat([image, words[:n_prompt], torch.tensor([38, 39]), words[-n_answer:]])
    logits = torch.randn(len(tokens), vocabulary, generator=generator, dtype=torch.float64) + 0.5
    prompt = torch.arange(cells + 2, cells + 2 + n_prompt)
    return tokens, logits, grid, len(tokens) - n_answer, torch.arange(1, cells + 1), prompt


# The rank-Gaussian filter


def test_filter_gives_the_released_numbers():
    given, wanted = torch.tensor(GOLDEN["filter_in"]), torch.tensor(GOLDEN["filter_out"])
    assert (rank_gaussian_filter(given) - wanted).abs().max() < 1e-6
    batch = rank_gaussian_filter(torch.stack([given, 2 * given, given.flip(0)])[None].expand(2, 3, 12, 9))
    assert torch.equal(batch[1, 0], batch[0, 0]) and (batch[0, 1] - 2 * wanted).abs().max() < 1e-6
    assert (batch[0, 2] - wanted.flip(0)).abs().max() < 1e-6
    assert (rank_gaussian_filter(given.float()) - rank_gaussian_filter(given)).abs().max() < 1e-3  # of 255


@pytest.mark.parametrize("level", [0.1, 1.0, 1e-30, 1e30])
def test_filter_keeps_a_constant_map(level):
    for dtype in (torch.float32, torch.float64):
        maps = torch.full((2, 5, 6), level, dtype=dtype)
        torch.testing.assert_close(rank_gaussian_filter(maps), maps)


def test_filter_gives_zero_where_the_mean_is_not_positive():
    maps = torch.zeros(7, 7)
    maps[6, 6] = 5.0
    maps[0, 0], maps[0, 1] = 1.0, -3.0
    filtered = rank_gaussian_filter(maps)
    assert (filtered[:4, :4] == 0).all() and filtered[6, 6] > 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (2, 2), (3, 1, 4), (2, 3, 1, 1)])
def test_filter_takes_small_grids(shape):
    maps = random(*shape)
    filtered = rank_gaussian_filter(maps, 5)
    assert filtered.shape == shape and filtered.isfinite().all()
    assert (filtered >= maps.amin((-2, -1), keepdim=True)).all()
    assert (filtered <= maps.amax((-2, -1), keepdim=True)).all()


def test_filter_of_a_line_repeats_its_edge_across_it():
    line = random(1, 9)
    assert torch.allclose(rank_gaussian_filter(line), rank_gaussian_filter(line.expand(5, 9))[2:3])


@pytest.mark.parametrize("size", [5, 7])
def test_filter_of_larger_windows_against_the_formula(size):
    maps, reach = random(9, 8, seed=size), size // 2
    window = maps[4 - reach : 5 + reach, 4 - reach : 5 + reach].flatten().sort().values
    sigma = window.std(correction=0) / window.mean()
    kernel = torch.exp(-((torch.arange(size**2) - size**2 // 2) ** 2) / (2 * sigma**2))
    torch.testing.assert_close(rank_gaussian_filter(maps, size)[4, 4], (kernel * window).sum() / kernel.sum())


# Rankings


@pytest.mark.parametrize(
    "second, at_90, at_98",
    [
        ([1, 0, *range(2, 50)], 0.899482, 0.968545),
        ([*range(1, 50), 99], 0.742920, 0.881243),
        ([*range(49, -1, -1)], 0.029473, 0.223666),
        ([*range(25), *range(100, 125)], 0.985264, 0.888167),
        ([*range(100, 125), *range(25, 50)], 0.014736, 0.111833),
    ],
)
def test_overlap_of_known_rankings(second, at_90, at_98):
    first, second = torch.arange(50), torch.tensor(second)
    for persistence, wanted in ((0.9, at_90), (0.98, at_98)):
        matrix = overlap_matrix(torch.stack([first, second])[None], persistence)
        assert matrix[0, 0, 1].item() == pytest.approx(wanted, abs=6e-7)


def rankings(n, tokens, k, vocabulary, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, tokens, vocabulary, generator=generator).topk(k).indices


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("persistence, k", [(0.9, 6), (0.5, 1), (0.98, 10)])
def test_overlap_against_its_definition(persistence, k, normalised):
    ids = rankings(2, 4, k, 12)
    ids[1, 2] = ids[1, 0]
    matrix = overlap_matrix(ids, persistence, normalised)
    for n, i, j in np.ndindex(2, 4, 4):
        a, b = ids[n, i].tolist(), ids[n, j].tolist()
        wanted = sum(persistence ** (d - 1) * len({*a[:d]} & {*b[:d]}) / d for d in range(1, k + 1))
        wanted *= (1 - persistence) / (1 - persistence**k if normalised else 1)
        assert matrix[n, i, j].item() == pytest.approx(wanted, abs=1e-12)


def test_overlap_is_symmetric_from_0_to_1_and_ends_there():
    ids = rankings(3, 9, 20, 60)
    ids[0, 1] = ids[0, 0] + 1000  # shares none
    matrix = overlap_matrix(ids)
    assert (matrix - matrix.mT).abs().max() < 1e-12 and matrix.min() >= 0 and matrix.max() <= 1 + 1e-12
    assert (matrix.diagonal(dim1=1, dim2=2) - 1).abs().max() < 1e-12
    assert matrix[0, 0, 1] == 0
    assert (overlap_matrix(ids, normalised=False) - matrix * (1 - 0.9**20)).abs().max() < 1e-12


def test_overlap_in_chunks_and_batches(monkeypatch):
    ids = rankings(3, 11, 15, 200, seed=1) * 750 + torch.arange(3)[:, None, None]  # far apart, other ones a sample
    whole = overlap_matrix(ids)
    assert torch.equal(whole, torch.cat([overlap_matrix(sample[None]) for sample in ids]))
    monkeypatch.setattr(numerics, "ENTRIES", 3 * 11 * 15 * 4)  # chunks of 4, 4 and 3 tokens
    assert torch.equal(overlap_matrix(ids), whole)


def test_overlap_of_padding_is_zero():
    ids, real = rankings(2, 6, 5, 30), torch.ones(2, 6, dtype=torch.bool)
    real[1, 4:] = False
    ids[1, 4:] = 0
    matrix = overlap_matrix(ids, real=real)
    assert (matrix[1, 4:] == 0).all() and (matrix[1, :, 4:] == 0).all()
    assert torch.equal(matrix[1, :4, :4], overlap_matrix(ids[1:, :4])[0])
    assert torch.equal(matrix[0], overlap_matrix(ids[:1])[0])


@pytest.mark.parametrize("levels", [2, 7, 10_000])
@pytest.mark.parametrize("k", [1, 5, 39, 40])
def test_top_ids_are_stable(levels, k):
    logits = torch.randint(levels, (3, 8, 40), generator=torch.Generator().manual_seed(k)).float() / 3
    logits[0, 0, 5:] = -torch.inf
    wanted = np.argsort(-logits.numpy(), -1, kind="stable")[..., :k]
    assert np.array_equal(top_ids(logits, k).numpy(), wanted)


def test_numbers_that_are_none_are_not_ranked():
    refused("NaN", top_ids, torch.tensor([[0.0, torch.nan, 1.0]]), 2)


# Interference


def interference(maps, weights, allowed, least_squares=True):
    return remove_interference(maps, "relevance", weights, None, allowed, least_squares=least_squares)


def two_tokens(context, target):
    """Maps (1, 2, 1, cells), weights and mask in which the second token has the first as its context."""
    maps = torch.stack([torch.as_tensor(context), torch.as_tensor(target)])[None, :, None]
    allowed = torch.tensor([[[False, False], [True, False]]])
    return maps, allowed.to(maps.dtype), allowed


def test_scale_is_that_of_the_released_optimiser():
    target, context = GOLDEN["ls_a"], GOLDEN["ls_b"]
    corrected = interference(*two_tokens(context, target))[0, 1, 0].numpy()
    left = corrected > 0
    scale = (target - corrected)[left] / context[left]
    assert np.abs(scale - GOLDEN["ls_scale"]).max() < 1e-6
    assert np.abs(corrected - np.maximum(target - GOLDEN["ls_scale"] * context, 0)).max() < 1e-6


def test_scale_minimises_the_square():
    maps, allowed = random(1, 5, 4, 6), torch.ones(1, 5, 5, dtype=torch.bool).tril(-1)
    weights = random(1, 5, 5, seed=1)
    corrected = interference(maps, weights, allowed)
    share = weights[0, 4, :4] / weights[0, 4, :4].sum()
    estimate = (share[:, None, None] * maps[0, :4]).sum(0)
    best = scipy.optimize.minimize_scalar(lambda s: ((maps[0, 4] - s * estimate) ** 2).sum().item())
    assert (corrected[0, 4] - (maps[0, 4] - best.x * estimate).relu()).abs().max() < 1e-6
    fixed = interference(maps, weights, allowed, least_squares=False)
    assert (fixed[0, 4] - (maps[0, 4] - estimate).relu()).abs().max() < 1e-6
    assert torch.equal(corrected[:, 0], maps[:, 0])  # nothing before it


def test_what_a_context_lights_up_goes_and_the_own_object_stays():
    own, other = torch.zeros(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    own[1], other[5] = 2.0, 1.0
    corrected = interference(*two_tokens(other, own + 3 * other))[0, 1, 0]
    assert (corrected - own).abs().max() < 1e-6
    opposed = own - 9 * other  # a negative scale would add the context
    assert torch.equal(interference(*two_tokens(other + own, opposed))[0, 1, 0], own)


def test_an_empty_context_leaves_the_map():
    maps, weights, allowed = random(2, 4, 3, 3), random(2, 4, 4), torch.ones(2, 4, 4, dtype=torch.bool).tril(-1)
    assert torch.equal(interference(maps, weights, torch.zeros_like(allowed)), maps)
    assert torch.equal(interference(maps, torch.zeros_like(weights), allowed), maps)
    maps[:, :3] = 0
    assert torch.equal(interference(maps, weights, allowed), maps)


@pytest.mark.parametrize("factor", [1e-4, 0.3, 1e5])
def test_only_the_direction_of_the_weights_counts_under_least_squares(factor):
    maps, weights = random(2, 6, 4, 4), random(2, 6, 6, seed=1) + 0.1
    allowed = torch.ones(2, 6, 6, dtype=torch.bool).tril(-1)
    plain = interference(maps, weights, allowed)
    assert (interference(maps, factor * weights, allowed) - plain).abs().max() < 1e-12
    damped = (torch.full_like(weights, level) for level in (0.5, 0.0))
    halved, taken = (remove_interference(maps, "damped_fixed", weights, rho, allowed) for rho in damped)
    assert (taken - plain).abs().max() < 1e-12 and (halved - plain).abs().max() > 0.05


def weighting_inputs(seed=0, n=2, tokens=6):
    relevance, overlap = (random(n, tokens, tokens, seed=seed + place) for place in (1, 2))
    allowed = torch.ones(n, tokens, tokens, dtype=torch.bool).tril(-1)
    return random(n, tokens, 4, 5, seed=seed), relevance, overlap, allowed


def test_weightings_have_their_formulas():
    _, r, rho, allowed = weighting_inputs()
    wanted = {
        "relevance": r, "irrelevance": 1 - rho, "damped": r * (1 - rho), "agreement": rho, "damped_fixed": r * (1 - rho),
        "incoherent": torch.where(rho >= 0.3, 0, r),
    }  # fmt: skip
    assert wanted.keys() == WEIGHTINGS.keys()
    for weighting, weights in wanted.items():
        assert torch.equal(context_weights(weighting, r, rho, allowed, 0.3), weights * allowed), weighting
    rho[:] = 0.5
    assert (context_weights("incoherent", r, rho, allowed) == 0).all()  # at the threshold is out
    assert torch.equal(context_weights("relevance", r, None, allowed), r * allowed)
    assert context_weights("damped", r.float(), rho, allowed).dtype == torch.float32


def test_weightings_where_all_rankings_agree_or_none_does():
    maps, r, rho, allowed = weighting_inputs()
    tam = remove_interference(maps, "relevance", r, None, allowed)
    disjoint, same = torch.zeros_like(rho), torch.ones_like(rho)
    for weighting in ("damped", "damped_fixed", "incoherent"):
        assert torch.equal(remove_interference(maps, weighting, r, disjoint, allowed), tam)
        assert torch.equal(remove_interference(maps, weighting, r, same, allowed), maps)
    assert torch.equal(remove_interference(maps, "agreement", r, disjoint, allowed), maps)
    assert torch.equal(remove_interference(maps, "irrelevance", r, same, allowed), maps)
    assert (tam - maps).abs().max() > 0.1


def test_context_is_what_stands_before_under_another_id():
    ids = torch.tensor([[4, 7, 4, 7, 9, 0], [1, 2, 3, 4, 5, 6]])
    is_answer = torch.arange(6).expand(2, 6) >= 2
    real = torch.tensor([[True] * 5 + [False], [True] * 2 + [False] + [True] * 3])
    mask = context_mask(ids, is_answer, real)
    rows = [[k for k in range(6) if mask[0, t, k]] for t in range(6)]
    assert rows == [[], [0], [1], [0, 2], [0, 1, 2, 3], []]
    assert torch.equal(mask[1], torch.ones(6, 6).tril(-1).bool() & real[1] & real[1][:, None])
    answers = context_mask(ids, is_answer, real, prompt_context=False)
    assert [[k for k in range(6) if answers[0, t, k]] for t in range(6)] == [[], [], [], [2], [2, 3], []]
    every = context_mask(ids, is_answer, real, repeated=True)
    assert torch.equal(every[0, :5, :5], torch.ones(5, 5).tril(-1).bool()) and not every[0, 5].any()


def test_joint_normalisation_dims_what_the_text_explains():
    maps = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [3.0, 3.0, 3.0]])[None, :, None]
    relevance = torch.tensor([[[100.0] * 3, [8.0, -50, 50], [3.0, 3.0, 77.0]]])
    context = torch.ones(1, 3, 3, dtype=torch.bool).tril(-1)
    found = joint_normalisation(maps, relevance, context)[0, :, 0]
    torch.testing.assert_close(found, torch.tensor([[0, 1 / 3, 1], [0, 1 / 7, 3 / 7], [0, 0, 0]]))
    lower = joint_normalisation(maps, torch.zeros(1, 3, 3), context)[0, 1, 0]
    torch.testing.assert_close(lower, torch.tensor([0.25, 0.5, 1]))


def pipeline(maps, logits, ids, is_answer, real, weighting):
    rho = overlap_matrix(top_ids(logits, 8), real=real)
    relevance = logits.gather(2, ids[:, None].expand(-1, ids.shape[1], -1)).relu().mT
    allowed, before = (context_mask(ids, is_answer, real, repeated=repeated) for repeated in (False, True))
    maps = remove_interference(maps, weighting, relevance, rho, allowed, threshold=0.2)
    return rank_gaussian_filter(joint_normalisation(maps, relevance, before))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_padding_batching_and_precision_change_nothing(weighting):
    lengths, longest = [5, 9, 7], 9
    maps, logits = random(3, longest, 6, 4, seed=3), 4 * random(3, longest, 20, seed=4) - 1
    ids = torch.randint(20, (3, longest), generator=torch.Generator().manual_seed(5))
    real = torch.arange(longest) < torch.tensor(lengths)[:, None]
    is_answer = torch.arange(longest).expand(3, longest) >= 2
    whole = pipeline(maps, logits, ids, is_answer, real, weighting)
    for n, length in enumerate(lengths):
        part = [x[n : n + 1, :length] for x in (maps, logits, ids, is_answer, real)]
        torch.testing.assert_close(pipeline(*part, weighting)[0], whole[n, :length], rtol=0, atol=1e-12)
    single = pipeline(maps.float(), logits.float(), ids, is_answer, real, weighting)
    assert single.dtype == torch.float32 and (single - whole)[real].abs().max() < 1e-5


# Scales

GRIDS = [(8, 8), (12, 12), (16, 16)]


def blob(rows, cols, y, x, width=0.1):
    """A Gaussian at (y, x) of the unit square, (1, 1, rows, cols)."""
    at_y, at_x = ((torch.arange(size, dtype=torch.float64) + 0.5) / size for size in (rows, cols))
    return torch.exp(-(((at_y[:, None] - y) ** 2) + (at_x - x) ** 2) / (2 * width**2))[None, None]


def centroid(maps):
    rows, cols = maps.shape[-2:]
    at_y, at_x = ((torch.arange(size, dtype=torch.float64) + 0.5) / size for size in (rows, cols))
    total = maps.sum()
    return ((maps.sum(-1) * at_y).sum() / total).item(), ((maps.sum(-2) * at_x).sum() / total).item()


@pytest.mark.parametrize("grid", ["finest", "native", (5, 9)])
@pytest.mark.parametrize("y, x", [(0.35, 0.6), (0.65, 0.4)])
def test_an_object_stays_in_its_place(y, x, grid):
    scales = [blob(*size, y, x) for size in [*GRIDS, (10, 14)]]
    for scale in scales:
        assert centroid(scale) == pytest.approx((y, x), abs=2e-3)
        assert centroid(aggregate([scale], grid=(16, 16))) == pytest.approx((y, x), abs=2e-3)
    assert centroid(aggregate(scales, grid=grid)) == pytest.approx((y, x), abs=2e-3)


@pytest.mark.parametrize("grid", ["finest", "native", (5, 9), (1, 1)])
def test_a_constant_stays_constant(grid):
    found = aggregate([torch.full((2, 3, *size), 0.7) for size in [(6, 10), (3, 5), (9, 15)]], grid=grid)
    torch.testing.assert_close(found, torch.full_like(found, 0.7))
    assert found.shape[2:] == {"finest": (9, 15), "native": (6, 10)}.get(grid, grid)


def test_one_scale_is_itself():
    maps = random(2, 3, 7, 5, dtype=torch.float32)
    for grid in ("finest", "native", (7, 5)):
        assert torch.equal(aggregate([maps], grid=grid), maps)
    assert torch.equal(aggregate([maps], weights=torch.tensor([[0.3], [5.0]])), maps)


def test_shrinking_counts_every_cell():
    maps = torch.zeros(1, 256, 16, 16, dtype=torch.float64)
    maps.view(256, 256).fill_diagonal_(1.0)  # a single lit cell, everywhere
    seen = aggregate([maps], grid=(4, 4)).sum((-2, -1))
    assert seen.min() > 0.02


def test_scales_are_weighted_for_each_sample():
    maps = [random(2, 3, *size, seed=seed) for seed, size in enumerate(GRIDS)]
    alone = [aggregate([scale], grid=(16, 16)) for scale in maps]
    torch.testing.assert_close(aggregate(maps), torch.stack(alone).mean(0))
    found = aggregate(maps, weights=torch.tensor([[0.0, 2.0, 0.0], [1.0, 1.0, 2.0]]))
    torch.testing.assert_close(found[0], alone[1][0])
    torch.testing.assert_close(found[1], alone[0][1] / 4 + alone[1][1] / 4 + alone[2][1] / 2)
    torch.testing.assert_close(aggregate(maps[::-1], grid="native", native=2), aggregate(maps, grid="native"))


def test_scales_are_normalised_before_the_mean():
    faint, loud = random(1, 2, 8, 8), 1000 * random(1, 2, 16, 16, seed=1) + 3
    for normalise in ("range", "sum"):
        both = aggregate([faint, loud], normalise=normalise)
        torch.testing.assert_close(aggregate([faint, loud / 500], normalise=normalise), both)
    torch.testing.assert_close(both.sum((-2, -1)), torch.ones(1, 2, dtype=torch.float64))
    found = aggregate([faint], normalise="range")
    assert (found.amin((-2, -1)) == 0).all() and (found.amax((-2, -1)) == 1).all()
    for normalise in ("none", "range", "sum"):
        assert (aggregate([torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 6, 6)], normalise=normalise) == 0).all()


# The released function


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", [1, 2])
def test_released_maps_to_the_last_unit(case, dtype):
    (tokens, logits, *rest), wanted = golden_case(case)
    assert torch.equal(released_tam(tokens, logits.to(dtype), *rest), wanted)


def without_quirks(tokens, logits, grid, input_length, image, prompt):
    """The same case where two quirks have nothing to change: the last input token is the first answer token, and the
    first prompt token is the likeliest at its own position."""
    tokens, logits = tokens.clone(), logits.clone()
    tokens[input_length - 1] = tokens[input_length]
    logits[prompt[0], tokens[prompt[0]]] = logits[prompt[0]].max() + 1
    return tokens, logits, grid, input_length, image, prompt


@pytest.mark.parametrize("case", [1, 2])
def test_corrected_is_released_where_the_quirks_do_not_enter(case):
    arguments, _ = golden_case(case)
    neutral = without_quirks(*arguments)
    assert torch.equal(released_tam(*neutral)[1:], corrected_tam(*neutral)[1:])
    first = [way(*neutral)[0] for way in (released_tam, corrected_tam)]
    assert not torch.equal(*first)  # the first round's quirk always enters
    assert not torch.equal(released_tam(*arguments)[1:], corrected_tam(*arguments)[1:])


def test_each_quirk_changes_its_own_maps():
    tokens, logits, grid, start, image, prompt = without_quirks(*sequence())
    neutral = released_tam(tokens, logits, grid, start, image, prompt)
    argmax = logits.clone()
    argmax[prompt[0]] = -argmax[prompt[0]]  # another word is now the likeliest there; its relevance changes, too
    assert all((neutral != released_tam(tokens, argmax, grid, start, image, prompt)).flatten(1).any(1))
    other = tokens.clone()
    other[start - 1] = 39
    changed = (neutral != released_tam(other, logits, grid, start, image, prompt)).flatten(1).any(1)
    assert not changed[0] and all(changed[1:])
    first = logits.clone()
    first[image, tokens[start]] = 0  # the first answer word's own map counts as context only
    without, whole = (released_tam(other, values, grid, start, image, prompt) for values in (first, logits))
    assert torch.equal(without, whole)


def test_the_first_released_map_knows_no_text():
    tokens, logits, grid, start, image, prompt = sequence()
    loud = logits.clone()
    loud[torch.cat([prompt[1:], torch.tensor([start - 1])])] *= 100
    found, plain = (released_tam(tokens, x, grid, start, image, prompt) for x in (loud, logits))
    assert torch.equal(found[0], plain[0]) and not torch.equal(found[1:], plain[1:])
    alone = logits[image, logits[prompt[0]].argmax()].relu().view(grid)
    alone = (alone - alone.min()) / (alone.max() - alone.min())
    assert torch.equal(found[0], (255 * rank_gaussian_filter(alone)).to(torch.uint8))


def test_a_context_of_repeats_leaves_the_map():
    tokens, logits, grid, start, image, prompt = sequence()
    tokens[prompt], tokens[start : start + 2] = 5, 5
    found = released_tam(tokens, logits, grid, start, image, prompt)
    raw = logits[image, 5].relu().view(1, 1, *grid)
    states = torch.cat([prompt, torch.tensor([start - 1])])
    dimmed = joint_normalisation(raw, logits[states, 5].relu()[None, None], torch.ones(1, 1, 5, dtype=torch.bool))
    assert torch.equal(found[1], (255 * rank_gaussian_filter(dimmed))[0, 0].to(torch.uint8))
