"""Where the recursion ends: multipliers against closed forms, automatic and finite differences; courses made by hand."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from refusals import refused
from scipy.special import expit, softmax
from small_models import small_clip

import xaikit as xk
from xaikit.files import store
from xaikit.resonance import end_points as stability
from xaikit.resonance.coupling import COUPLINGS, TEMPERATURES, coupled
from xaikit.resonance.end_points import (
    SETTLED,
    _settle,
    fixed_points,
    jacobians,
    leading_swing,
    multipliers,
    outcomes,
    regimes,
)
from xaikit.resonance.recursion import Recursion, read, steps

TEXTS = ["a red ring", "a large blue ring below a small pink square"]
ALPHA = 0.7


@pytest.fixture(scope="module")
def pixels(clip):
    return clip.pixels(xk.draw_scenes(2, seed=3).image)


@torch.no_grad()
def end_of(clip, pixels, recursion):
    """The features and the last map."""
    features = read(clip, pixels, clip.tokens(TEXTS), recursion)
    *_, gate = steps(clip, features, recursion)
    return features, gate


@pytest.fixture(scope="module")
def ended(clip, pixels):
    """Each coupling's recursion, features and end point, those of the encoder for the last words."""
    words = {"none": "all", "attention": "all", "encoder": "last"}
    recursions = [Recursion(coupling, ALPHA, 30, words=words[coupling]) for coupling in COUPLINGS]
    return {each.coupling: (each, *end_of(clip, pixels, each)) for each in recursions}


def words_of(features):
    """Sample and place of each word that is there."""
    return features.there.nonzero(as_tuple=True)


def distance(found, expected):
    """Largest distance of an eigenvalue to the nearest of the other set, either way."""
    apart = np.abs(np.asarray(found)[:, None] - np.asarray(expected)[None])
    return max(apart.min(0).max(), apart.min(1).max())


def test_multipliers_of_the_letter_are_their_closed_form(clip, ended):
    """METHODS.md section 4: m = 1 - alpha + alpha * f'(r), one for each entry."""
    recursion, features, gate = ended["none"]
    found = multipliers(clip, features, recursion, gate).numpy()
    for sample, token in features.there.nonzero().tolist():
        v, t = (x.double().numpy() for x in (features.patches[sample], features.words[sample, token]))
        r = gate[sample, token].double().numpy()
        risen = expit(r[:, None] * v)
        slope = (v * risen * (1 - risen) * expit(t)).mean(1)
        expected = 1 - ALPHA + ALPHA * slope
        expected = expected[np.abs(expected).argsort()[::-1]]
        np.testing.assert_allclose(found[sample, token], expected, atol=1e-6)
    assert (found[0, 3:] == 0).all() and np.abs(found[~features.there.numpy()]).max() == 0


def matrix_of_attention(r, cosine, temperature):
    """Patches / temperature * (diag(p) - p p^T) diag(cosine), with p the softmax."""
    p = softmax(r * cosine / temperature)
    return len(p) / temperature * (np.diag(p) - np.outer(p, p)) * cosine


def test_multipliers_of_attention_are_those_of_its_matrix(clip, pixels):
    """At the end, where a patch has most of the map, and after two iterations, where it is spread."""
    for iterations, temperature in ((2, 2.0), (2, 0.5), (30, 0.5)):
        recursion = Recursion("attention", ALPHA, iterations, temperature)
        features, gate = end_of(clip, pixels, recursion)
        whole = jacobians(clip, features, recursion, gate, words_of(features))
        found = multipliers(clip, features, recursion, gate).numpy()
        for index, (sample, token) in enumerate(features.there.nonzero().tolist()):
            r, c = gate[sample, token].double().numpy(), features.cosine[sample, token].double().numpy()
            matrix = matrix_of_attention(r, c, temperature)
            np.testing.assert_allclose(whole[index], matrix, atol=1e-4 * np.abs(matrix).max())
            expected = np.linalg.eigvals(ALPHA * matrix + (1 - ALPHA) * np.eye(len(r)))
            size = np.abs(expected).max()
            assert np.abs(expected.imag).max() < 1e-6 * size
            own = found[sample, token]
            assert distance(own.real, expected.real) < 1e-4 * size and np.abs(own.imag).max() < 1e-4 * size
            assert (np.diff(np.abs(own)) <= 1e-12).all()


@pytest.mark.parametrize("coupling", ["attention", "encoder"])
def test_jacobians_are_finite_differences_of_the_recursion(clip, ended, coupling):
    recursion, features, _ = ended[coupling]
    gate = 1 + 0.3 * torch.randn(*features.there.shape, 64, generator=torch.Generator().manual_seed(0))
    way = torch.randn(gate.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        phi = coupled(clip, features, coupling, recursion.temperature, recursion.block, (0.0, 0.0))
        expected = (phi(gate + 0.01 * way) - phi(gate - 0.01 * way))[features.there] / 0.02
        found = jacobians(clip, features, recursion, gate, words_of(features))
    found = (found @ way[features.there].unsqueeze(-1)).squeeze(-1)
    assert (found - expected).abs().max() < 5e-3 * expected.abs().max()


@pytest.mark.parametrize("temperature", [0.8, 2.0])
def test_a_push_comes_back_at_the_rate_of_the_largest_multiplier(clip, pixels, temperature):
    """The recursion itself, in float64, pushed off its end point along its slowest direction."""
    found = fixed_points(clip, pixels, TEXTS, most=400, alpha=ALPHA, temperature=temperature)
    features, _ = end_of(clip, pixels, Recursion(iterations=1))
    rates = []
    for sample, token in features.there.nonzero().tolist():
        c = features.cosine[sample, token].double().numpy()
        end = found.end.values[0, sample, token].ravel().astype(float)
        assert found.settling.values[0, sample, token] > 0 and found.cycle.values[0, sample, token] == 1

        def step(r, c=c):
            return ALPHA * 64 * softmax(r * c / temperature) + (1 - ALPHA) * r

        for _ in range(1000):
            end = step(end)
        np.testing.assert_allclose(found.end.values[0, sample, token].ravel(), end, rtol=5e-3, atol=5e-3)
        value, vector = np.linalg.eig(ALPHA * matrix_of_attention(end, c, temperature) + (1 - ALPHA) * np.eye(64))
        gap = end + 1e-5 * vector[:, np.abs(value).argmax()].real
        for _ in range(4):
            before, gap = gap, step(gap)
        rates.append(np.linalg.norm(gap - end) / np.linalg.norm(before - end))
    expected = np.abs(found.jacobian_eigenvalue.values[0][features.there.numpy()][:, 0])
    np.testing.assert_allclose(rates, expected, rtol=5e-3)


def course(*maps):
    """_settle of one sample with a course for each token."""
    maps = torch.tensor(np.stack(maps, 1), dtype=torch.float32)  # (time, tokens, patches)
    end, summary = _settle(iter(maps[:, None]))
    return end[0], {name: values[0].tolist() for name, values in summary.items()}


def test_settled_cycling_and_growing_courses():
    time = np.arange(61)[:, None]
    base, wave = np.array([1.0, 2.0, 3.0]), np.array([0.3, -0.2, 0.1])
    settled = base + wave * np.maximum(5 - time, 0)  # no step from map 5 on
    halving = base + wave * 0.5**time
    two = base + wave * (-1.0) ** time
    three = base + wave * np.cos(2 * np.pi * time / 3)
    twelve = base + wave * np.cos(2 * np.pi * time / 12)
    growing = base * 1.1**time
    slow = base * 1.002**time
    end, found = course(settled, halving, two, three, twelve, growing, slow, base + 0 * time)
    torch.testing.assert_close(end[1], torch.tensor(halving[-1], dtype=torch.float32))
    last = next(t for t in range(60) if 0.3 * 0.5 ** (t + 1) <= SETTLED * 3)  # the largest entry of the end is 3
    assert found["settling"][:2] == [5, pytest.approx(last, abs=1)]
    assert found["settling"][2:] == [-1, -1, -1, -1, -1, 0]
    assert found["cycle"] == [1, 1, 2, 3, 12, -1, -1, 1]
    assert found["last_step"][2] == pytest.approx(0.6 / 3.1, rel=1e-3)  # the end is at an even time
    assert found["last_step"][5] == pytest.approx(0.1 / 1.1, rel=1e-3) and found["last_step"][0] == 0


def test_a_course_that_moved_in_its_last_iteration_is_not_settled():
    still, jumped = np.ones((2, 30, 4))
    jumped[-1, 0] = 2
    _, found = course(still, jumped)
    assert found["settling"] == [0, -1] and found["cycle"] == [1, -1]


def test_a_coarser_tolerance_settles_what_rounding_keeps_moving():
    time = np.arange(30)[:, None]
    shaking = np.array([[1.0, 2.0, 4.0]]) + 2e-3 * np.maximum(4 - time, 0) + 1e-3 * (-1.0) ** time * (time > 4)
    maps = torch.tensor(shaking[:, None, None], dtype=torch.float32).squeeze(3)
    for tolerance, ends in ((SETTLED, -1), (6e-4, 0), (4e-4, -1)):  # its steps are of 2e-3 of 4
        _, found = _settle(iter(maps), tolerance)
        assert found["settling"].item() == ends and found["cycle"].item() == (1 if ends == 0 else -1)


def test_the_leading_swing_is_a_pair_or_alternates():
    fast, slow, short = (m * np.exp(2j * np.pi / n) for m, n in ((0.8, 5), (0.85, 40), (0.2, 3)))
    values = np.array(
        [
            [0.95, slow, slow.conj(), fast.conj(), fast, short, short.conj()],
            [1, 0.95, 0.5, -0.3, 0.1, 0, 0],
            [-1.2, fast, fast.conj(), 0, 0, 0, 0],
            [-0.9, fast, fast.conj(), 0, 0, 0, 0],  # turns by pi / -log 0.9
            [fast, fast.conj(), -0.01, 0, 0, 0, 0],  # by 0.7 only
            [1, 0.9 + 1e-3j, 0.9 - 1e-3j, 0.5, 0.1, 0, 0],  # split by rounding
            [1.2j, -1.2j, fast, fast.conj(), 1, 0.3, 0],
            [np.nan] * 7,
        ]
    )
    found = leading_swing(values)
    nan, pair = np.nan, 2 * np.pi / 5 / -np.log(0.8)
    np.testing.assert_allclose(found[0], [0.8, 0.3, 1.2, 0.9, 0.8, nan, 1.2, nan])
    np.testing.assert_allclose(found[1], [5, 2, 2, 2, 5, nan, 4, nan])
    turns = [pair, np.pi / -np.log(0.3), np.inf, np.pi / -np.log(0.9), pair, nan, np.inf, nan]
    np.testing.assert_allclose(found[2], turns)
    mirrored = leading_swing(values.conj()[:, ::-1])
    np.testing.assert_allclose(mirrored, found)  # neither order nor which of a pair
    split = leading_swing(np.array([[0.9, -0.5 + 1e-3j, -0.5 - 1e-3j]]))
    np.testing.assert_allclose(split, np.array([[0.5], [2], [np.pi / np.log(2)]]), rtol=2e-3)


def test_a_swing_turns_a_course_by_what_it_says():
    """The recursion of a matrix with this multiplier: how far it has turned when it has faded to 1/e."""
    modulus, angle = 0.9, 0.4
    found = leading_swing(np.array([modulus * np.exp([1j * angle, -1j * angle])]))
    time = -1 / np.log(modulus)
    np.testing.assert_allclose([each[0] for each in found], [modulus, 2 * np.pi / angle, angle * time])
    assert modulus**time == pytest.approx(np.exp(-1))


@pytest.mark.parametrize("coupling", ["none", "attention"])
def test_words_have_the_multipliers_they_have_among_others(clip, ended, monkeypatch, coupling):
    recursion, features, gate = ended[coupling]
    expected = multipliers(clip, features, recursion, gate)
    monkeypatch.setattr(stability, "MATRICES_AT_ONCE", 5)  # 12 words: parts of 5, 5 and 2
    torch.testing.assert_close(multipliers(clip, features, recursion, gate), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_fixed_points_are_the_end_and_its_multipliers(clip, pixels, ended, tmp_path, coupling):
    recursion, features, gate = ended[coupling]
    options = {"coupling": coupling, "alpha": ALPHA, "words": recursion.words}
    found = fixed_points(clip, pixels, TEXTS, most=30, batch_size=1, **options)
    store.write(found, tmp_path / "a.nc", "stability")
    there = features.there.numpy()
    np.testing.assert_allclose(found.end.values[0].reshape(2, 9, 64)[there], gate[features.there], rtol=2e-3, atol=2e-3)
    assert found.coupling.values.tolist() == [coupling] and found.token_text.values[0, 2] == "ring"
    for name in ("settling", "cycle"):
        assert (found[name].values[0][~there] == -1).all()
    for name in ("end", "last_step", "damping", "period", "turn", "jacobian_eigenvalue"):
        assert np.isnan(found[name].values[0][~there]).all()
    eigenvalue = found.jacobian_eigenvalue.values[0]
    assert np.isfinite(eigenvalue[there]).all() and (np.diff(np.abs(eigenvalue[there])) <= 1e-9).all()
    with torch.no_grad():
        expected = multipliers(clip, features, recursion, gate)[features.there].numpy()
    for own, wanted in zip(eigenvalue[there], expected, strict=True):
        assert distance(own, wanted) < 0.05 * max(1, np.abs(wanted).max())
    about = json.loads(found.attrs["provenance"])["parameters"]
    assert about["iterations"] == 30 and about["alpha"] == ALPHA
    if coupling == "none":
        assert (found.cycle.values[0][there] == 1).all() and np.isnan(found.damping).all()


def test_overshooting_the_letter_alternates(clip, pixels):
    """Its multipliers 1 - alpha + alpha * f'(r) are near -0.8 for alpha 1.8, as slopes are at most 1/4: period 2."""
    found = fixed_points(clip, pixels, TEXTS, coupling="none", alpha=1.8)
    there = found.last_step.notnull().values
    least = found.jacobian_eigenvalue.values[there].real.min(-1)
    assert (found.cycle.values[there] == 1).all() and (-0.9 < least).all() and (least < -0.6).all()
    np.testing.assert_allclose(found.damping.values[there], -least)
    np.testing.assert_allclose(found.period.values[there], 2)
    np.testing.assert_allclose(found.turn.values[there], np.pi / -np.log(-least))
    np.testing.assert_array_equal(outcomes(found).alternates, there)


def test_only_an_end_point_has_a_swing(clip, pixels):
    """Overshot attention: of its words some settle and others don't."""
    found = fixed_points(clip, pixels, TEXTS, alpha=1.8, temperature=0.5, most=60)
    settled = found.cycle.values == 1
    assert settled.any() and (found.cycle.values > 1).any()
    expected = leading_swing(found.jacobian_eigenvalue.values)
    assert np.isfinite(expected[0][found.last_step.notnull().values & ~settled]).any()  # and yet not given
    for name, own in zip(("damping", "period", "turn"), expected, strict=True):
        np.testing.assert_array_equal(found[name], np.where(settled, own, np.nan))


NAN = np.nan
ENDS = [  # cycle, last step, turn, period, how it ends
    (1, 0.0, NAN, NAN, "straight"),
    (1, 1e-5, 0.99, 2.0, "straight"),
    (1, 1e-5, 1.0, 2.0, "alternates"),
    (1, 1e-5, 1.0, 2.1, "rotates"),
    (1, 1e-5, np.inf, 30.0, "rotates"),
    (1, 0.02, NAN, NAN, "straight"),  # settled as far as half precision can tell
    (2, 0.4, NAN, NAN, "cycles"),
    (12, 1e-3, NAN, NAN, "cycles"),
    (-1, 0.4, NAN, NAN, "restless"),
    (-1, 0.01, NAN, NAN, "restless"),
    (-1, 1e-3, NAN, NAN, "restless"),
    (-1, NAN, NAN, NAN, ""),  # no map
]


def test_outcomes_of_maps_made_by_hand():
    cycle, step, turn, period, expected = (np.array(column).reshape(1, 3, 4) for column in zip(*ENDS, strict=True))
    at = ("coupling", "sample", "token")
    given = {"cycle": cycle, "last_step": step, "turn": turn, "period": period}
    found = outcomes(xr.Dataset({name: (at, values) for name, values in given.items()}))
    assert list(found.data_vars) == ["straight", "alternates", "rotates", "cycles", "restless"]
    for name, values in found.items():
        assert values.dtype == bool and values.dims == at
        np.testing.assert_array_equal(values, expected == name, err_msg=name)


@pytest.mark.parametrize(
    "options, seen",
    [
        ({"coupling": "none", "most": 40}, {"straight"}),
        ({"coupling": "none", "alpha": 1.8, "most": 60}, {"restless"}),  # which the last test lets go on
        ({"alpha": 1.8, "temperature": 0.5, "most": 60}, {"alternates", "cycles", "restless"}),
        ({"coupling": "encoder", "words": "last", "most": 20}, set()),
    ],
)
def test_each_word_ends_in_exactly_one_way(clip, pixels, options, seen):
    found = fixed_points(clip, pixels, TEXTS, **options)
    ends = outcomes(found)
    words = np.arange(9) < np.array([[3], [9]])
    if options.get("words") == "last":
        words = np.arange(9) == np.array([[2], [8]])
    np.testing.assert_array_equal(ends.to_dataarray().sum("variable")[0], words)
    assert seen <= {name for name, values in ends.items() if values.any()}
    np.testing.assert_array_equal(ends.cycles, found.cycle > 1)


def test_half_precision_settles_where_the_whole_one_does(clip, pixels):
    """Its rounding keeps the encoder's maps trembling by more than ``SETTLED``."""
    options = {"coupling": "encoder", "alpha": ALPHA, "words": "last", "most": 40}
    half = xk.load_clip("tiny-clip", precision="bf16")
    found = fixed_points(half, half.pixels(xk.draw_scenes(2, seed=3).image), TEXTS, **options)
    whole = fixed_points(clip, pixels, TEXTS, **options)
    there = whole.last_step.notnull().values
    assert (whole.cycle.values[there] == 1).all() and (found.cycle.values[there] == 1).all()
    assert (whole.last_step.values[there] <= SETTLED).all() and (found.last_step.values[there] > SETTLED).any()
    np.testing.assert_allclose(found.end.values[there], whole.end.values[there], atol=0.1)
    np.testing.assert_array_equal(outcomes(found).alternates, outcomes(whole).alternates)
    # The other couplings are computed in float32 whatever the towers are.
    slow = fixed_points(half, half.pixels(xk.draw_scenes(2, seed=3).image), TEXTS, most=20, alpha=0.1)
    assert (slow.cycle == 1).sum() == 0 and SETTLED < slow.last_step.max() < 0.03


def test_regimes_need_something_to_go_over(clip, pixels):
    for given in (([], [0.5]), ([0.5], [])):
        refused(r"(alphas|temperatures)=\[\].*: at least one of each is needed", regimes, clip, pixels, TEXTS, *given)


def test_a_settled_map_is_a_fixed_point_of_phi(clip, pixels):
    found = fixed_points(clip, pixels, TEXTS, coupling="none", alpha=ALPHA)
    features, _ = end_of(clip, pixels, Recursion("none", ALPHA))
    gate = torch.from_numpy(found.end.values[0].reshape(2, 9, 64))
    again = coupled(clip, features, "none", None, -2, (0.0, 1.0))(gate)
    assert (again - gate)[features.there].abs().max() < 1e-5


def test_one_multiplier_serves_every_alpha(clip, ended):
    _, features, gate = ended["attention"]
    own = {a: multipliers(clip, features, Recursion("attention", a), gate)[1, 4].numpy() for a in (0.2, 1.0)}
    assert distance(own[0.2], 0.8 + 0.2 * own[1.0]) < 1e-6


def test_the_encoder_can_turn_where_the_others_cannot():
    """Random weights of some size have complex multipliers under "encoder", never under the other two."""
    small = small_clip("small-vit")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([[1, 5, 9, 63, *[0] * 8], [1, 5, 9, 7, 8, 63, *[0] * 6]])
    found = {c: fixed_points(small, pixels, tokens, most=20, coupling=c) for c in COUPLINGS}
    turning = {c: np.nanmax(np.abs(ds.jacobian_eigenvalue.values.imag)) for c, ds in found.items()}
    assert turning["none"] == 0 and turning["attention"] < 1e-4 < turning["encoder"]


def test_attention_without_a_derivative_is_allowed_again_afterwards(clip, pixels):
    for allowed in (False, True):
        torch.backends.mha.set_fastpath_enabled(allowed)
        fixed_points(clip, pixels[:1], "a ring", most=1, iterations=1, coupling="encoder", words="last")
        assert torch.backends.mha.get_fastpath_enabled() == allowed


def test_one_sentence_for_a_wrong_choice(clip, pixels):
    for options, message in (
        ({"most": 19}, "most=19: a whole number of at least 20"),
        ({"most": 5, "iterations": 8}, "most=5: a whole number of at least 8"),
        ({"alpha": 2}, "alpha=2: a number above 0 and below 2"),
        ({"step": 2}, "unknown option 'step' of the recursion"),
    ):
        refused(message, fixed_points, clip, pixels, TEXTS, **options)


def test_the_temperature_of_each_coupling_is_its_own():
    assert {c: Recursion(c).temperature for c in COUPLINGS} == TEMPERATURES
