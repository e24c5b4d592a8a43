"""The ledger of claims: its rows, verdicts on measurements with a known answer, and the papers' own arithmetic."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xaikit as xk
from xaikit.evaluation import claims, consistency
from xaikit.files import store
from xaikit.measures.planted_tokens import answer_means
from xaikit.samples.scenes import SUITES


@pytest.fixture(scope="module")
def rows():
    return claims.ledger()


def test_every_claim_has_its_fields(rows):
    assert rows.claim.is_unique and len(rows) >= 30
    assert set(rows.paper) == {"MMEL", "SRM", "MSEA and ARC", "Debunking Grad-ECLIP, arXiv 2605.12952"}
    assert set(rows.notebook) == {"04", "05", "06"}
    assert rows[["claim", "paper", "where", "text", "statement_tested"]].ne("").all(axis=None)
    assert rows.text.str.len().max() <= 160 and rows.claim.str.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+").all()


def test_every_claim_has_exactly_one_way_to_a_verdict(rows):
    """Measured by a notebook, computed from the paper, or untestable."""
    checked = set(claims.inconsistencies(rows, claims.paper_tables()).claim)
    tested, elsewhere = {*claims.COMPARISONS}, {*claims.SINGLES}
    assert tested | elsewhere | checked <= set(rows.claim) and not tested & elsewhere
    assert checked == set(consistency._CHECKS)
    for row in rows.itertuples():
        measured = row.claim in tested | elsewhere
        assert not (row.reason and (measured or row.claim in checked)), row.claim
        assert measured or row.claim in checked or row.reason, row.claim


def test_what_is_compared_exists():
    clip, scenes = xk.load_clip("tiny-clip"), xk.draw_scenes(2, seed=0)
    image = xk.explain("centre", clip, scenes.image, scenes.caption)
    text = xk.explain("random", clip, scenes.image, scenes.caption, of="text")
    known = {"image": xk.evaluate(image, clip, scenes, steps=2), "text": xk.evaluate(text, clip, scenes)}
    mllm, told = xk.load_mllm("tiny-llava"), xk.draw_descriptions(1, seed=0)
    answers = xk.explain_all_tokens(mllm, told.image, methods=["random"])
    described = xr.merge(
        [
            answer_means(xk.evaluation.measured_words(answers, told)),
            xk.evaluation.measure_faithfulness(mllm, told.image, answers, steps=2),
        ],
        combine_attrs="drop_conflicts",
    )
    methods = {name: found["explains"] for name, found in xk.methods().items()}
    for claim, test in claims.COMPARISONS.items():
        of_tokens = {*test.suites} <= {*claims.DESCRIBED}
        scores = described if of_tokens else known[test.of]
        assert test.metric in scores, f"{claim}: {test.metric}"
        better = {"higher is better": 1, "lower is better": -1}[scores[test.metric].score_direction]
        if claim not in (
            "mmel-drop-34",
            "mmel-clutter-10",
            "mmel-clutter-scales",
            "debunk-misaligned",
            "srm-deletion-marked",
        ):  # say so themselves
            assert better == (1 if test.direction == "higher" else -1), claim
        for name in (test.first, *test.second):
            able = name in claims.VARIANTS or test.of in methods.get(name, ())
            assert name in (*xk.mllm.TOKEN_METHODS, claims.UNCORRECTED) if of_tokens else able, f"{claim}: {name}"
        assert set(test.suites) <= {*SUITES, "mixed", "ablation", *claims.DESCRIBED}
        assert test.suites != ("ablation",) or {test.first, *test.second} <= {*claims.VARIANTS}
    for method, options in claims.VARIANTS.values():
        assert set(options) <= set(xk.methods()[method]["options"])


@pytest.mark.parametrize(
    ("low", "high", "direction", "bound", "expected"),
    [
        (0.1, 0.3, "higher", 0, claims.HOLDS),
        (-0.3, -0.1, "higher", 0, claims.FAILS),
        (-0.1, 0.3, "higher", 0, claims.UNDECIDED),
        (0.0, 0.0, "higher", 0, claims.UNDECIDED),
        (-0.3, -0.1, "lower", 0, claims.HOLDS),
        (0.1, 0.3, "lower", 0, claims.FAILS),
        (1.02, 1.10, "lower", 1.15, claims.HOLDS),
        (1.10, 1.20, "lower", 1.15, claims.UNDECIDED),
        (-0.005, 0.02, "higher", -0.01, claims.HOLDS),
        (-0.005, 0.005, "equal", 0.01, claims.HOLDS),
        (-0.005, 0.02, "equal", 0.01, claims.UNDECIDED),
        (0.011, 0.02, "equal", 0.01, claims.FAILS),
        (np.nan, np.nan, "equal", 0.01, claims.UNDECIDED),
    ],
)
def test_verdicts(low, high, direction, bound, expected):
    assert claims.verdict(low, high, direction, bound) == expected


def test_a_verdict_needs_a_direction():
    with pytest.raises(ValueError, match="direction='better'"):
        claims.verdict(0, 1, "better")


def _measured(**means) -> xr.Dataset:
    """Deletion AUC of each explainer: its mean, and noise that is the same for all but for a small part."""
    rng = np.random.default_rng(0)
    shared, own = rng.normal(0, 0.3, (40, 1)), rng.normal(0, 0.02, (40, len(means)))
    values = shared + own + np.array(list(means.values()))
    return xr.Dataset({"deletion_auc": (("sample", "explainer"), values)}, {"explainer": list(means)})


def _row(rows: pd.DataFrame, claim: str, **found) -> pd.Series:
    return claims.measure(rows, **found).set_index("claim").loc[claim]


def test_a_paired_difference_decides(rows):
    for gap, expected in ((-0.1, claims.HOLDS), (0.1, claims.FAILS), (0.0, claims.UNDECIDED)):
        found = _row(rows, "mmel-deletion", images={"mixed": _measured(mmel=0.5 + gap, grad_eclip=0.5)})
        assert found.verdict == expected and found.n == 40 and found.low <= found.measured <= found.high
        assert found.measured == pytest.approx(gap, abs=0.02)


def test_against_all_the_least_holding_counts(rows):
    better = {"mmel": 0.3, "clip_surgery": 0.5, "m2ib": 0.7, "grad_eclip": 0.4}
    found = _row(rows, "mmel-deletion-lowest", images={"mixed": _measured(**better)})
    assert found.verdict == claims.HOLDS and "against grad_eclip on mixed; holds in 3 of 3" in found.note
    found = _row(rows, "mmel-deletion-lowest", images={"mixed": _measured(**{**better, "m2ib": 0.1})})
    assert found.verdict == claims.FAILS and found.measured > 0.15 and "m2ib" in found.note
    found = _row(rows, "mmel-deletion-lowest", images={"mixed": _measured(**{**better, "m2ib": 0.3})})
    assert found.verdict == claims.UNDECIDED


def test_intervals_of_many_comparisons_are_wider(rows):
    many = _measured(mmel=0.3, grad_eclip=0.4, m2ib=0.9, clip_surgery=0.9)
    one = _row(rows, "mmel-deletion-lowest", images={"mixed": many.sel(explainer=["mmel", "grad_eclip"])})
    three = _row(rows, "mmel-deletion-lowest", images={"mixed": many})
    assert three.measured == one.measured and three.high - three.low > one.high - one.low


def test_what_was_not_measured_is_named_and_stays_open(rows):
    found = claims.measure(rows, {"mixed": _measured(mmel=0.3, grad_eclip=0.4)})
    by_claim = found.set_index("claim")
    assert by_claim.note["mmel-deletion-lowest"] == "not measured: clip_surgery, m2ib"
    assert by_claim.high["mmel-deletion-lowest"] < 0 and by_claim.verdict["mmel-deletion-lowest"] == claims.UNDECIDED
    assert by_claim.note["mmel-coverage-relation"] == "not measured: suite relation"
    filled = claims.fill(rows, found)
    assert filled.verdict.sel(claim="mmel-coverage-relation") == "filled by notebook 06"
    assert filled.verdict.sel(claim="srm-alpha") == "filled by notebook 04"
    assert filled.verdict.sel(claim="arc-rank") == "filled by notebook 05"
    assert filled.verdict.sel(claim="mmel-table-2") == claims.UNTESTABLE
    assert "ImageNet" in str(filled.note.sel(claim="mmel-table-2").values)


def test_clutter_is_a_change_with_the_number_of_objects(rows):
    names = np.full((40, 12), "red circle", dtype=object)
    names[:20, 10:] = ""  # the first half has 10 objects, which isn't more than 10
    scenes = {"clutter": xr.Dataset({"object_name": (("sample", "object"), names)})}
    energy = np.random.default_rng(0).normal(0.5, 0.02, (40, 2))
    energy[20:] -= [0.3, 0.1]
    images = {
        "clutter": xr.Dataset({"auroc": (("sample", "explainer"), energy)}, {"explainer": ["mmel", "grad_eclip"]})
    }
    found = _row(rows, "mmel-clutter-10", images=images, scenes=scenes)
    assert found.verdict == claims.HOLDS and found.measured == pytest.approx(-0.3, abs=0.02)
    found = _row(rows, "mmel-clutter-scales", images=images, scenes=scenes)
    assert found.verdict == claims.HOLDS and found.measured == pytest.approx(-0.2, abs=0.02)
    images["clutter"].auroc[:] = images["clutter"].auroc[::-1].values
    assert _row(rows, "mmel-clutter-10", images=images, scenes=scenes).verdict == claims.FAILS


def test_values_measured_elsewhere(rows):
    values = {
        "mmel-overhead": np.linspace(1.02, 1.04, 10),
        "mmel-sanity": np.full(9, 0.1),
        "debunk-equal": np.array([1e-6, 3e-6]),
        "mmel-any-clip": np.array([1.0, 1.0, 0.0]),
    }
    found = claims.measure(rows, {}, values=values).set_index("claim")
    assert found.verdict[["mmel-overhead", "debunk-equal", "mmel-any-clip", "mmel-sanity"]].tolist() == [
        claims.HOLDS,
        claims.HOLDS,
        claims.FAILS,
        claims.UNDECIDED,  # nine values are too few
    ]
    assert found.measured["debunk-equal"] == 3e-6
    assert (
        _row(rows, "mmel-overhead", images={}, values={"mmel-overhead": np.linspace(1.3, 1.4, 10)}).verdict
        == claims.FAILS
    )
    assert (
        _row(rows, "debunk-equal", images={}, values={"debunk-equal": np.array([1e-6, 1e-2])}).verdict == claims.FAILS
    )
    with pytest.raises(ValueError, match="values for 'mmel-deletion'"):
        claims.measure(rows, {}, values={"mmel-deletion": np.ones(3)})


def test_one_group_against_another(rows):
    rng = np.random.default_rng(0)
    first, second = rng.normal(1.0, 0.5, 40), rng.normal(0.0, 0.5, 30)
    found = _row(rows, "srm-compositional", images={}, values={"srm-compositional": (first, second)})
    assert (
        found.verdict == claims.HOLDS
        and found.n == 30
        and found.measured == pytest.approx(first.mean() - second.mean())
    )
    found = _row(rows, "srm-compositional", images={}, values={"srm-compositional": (second, first)})
    assert found.verdict == claims.FAILS
    found = _row(rows, "srm-compositional", images={}, values={"srm-compositional": (first[:9], second[:9])})
    assert found.verdict == claims.UNDECIDED


def _statistics(values) -> xr.Dataset:
    """Four named statistics at most, of scenes x statistics."""
    names = ("energy", "arrival", "entropy", "slow_share")
    return xr.Dataset({name: ("sample", column) for name, column in zip(names, np.transpose(values), strict=False)})


def test_a_statistic_that_tells_two_groups_apart(rows):
    """The second of three separates, whichever group it is larger in; noise doesn't."""
    rng = np.random.default_rng(0)
    noise, also = rng.normal(size=(2, 40, 3))
    first = noise + [0.0, 2.0, 0.0]
    for groups in ((first, also), (also, first)):
        groups = [_statistics(group) for group in groups]
        found = _row(rows, "srm-spurious", images={}, values={"srm-spurious": groups})
        assert found.note == "arrival, best of energy, arrival, entropy" and found.n == 40
        assert found.verdict == claims.HOLDS and found.low < found.measured < found.high <= 1
        # The AUROC is the share of pairs of scenes in the right order.
        assert found.measured == pytest.approx((first[:, 1, None] > also[None, :, 1]).mean())
        # The order of the statistics in the other group doesn't matter: they go by their names.
        turned = (groups[0], groups[1][["entropy", "energy", "arrival"]])
        assert _row(rows, "srm-spurious", images={}, values={"srm-spurious": turned}).equals(found)
    # The interval of the best of three is wider than it would be for this one alone.
    own = [group[["arrival"]] for group in groups]
    alone = _row(rows, "srm-spurious", images={}, values={"srm-spurious": own})
    assert alone.measured == found.measured and found.low < alone.low and alone.high <= found.high
    lucky = []
    for draw in range(1, 41):
        groups = [_statistics(group) for group in np.random.default_rng(draw).normal(size=(2, 40, 4))]
        lucky.append(_row(rows, "srm-spurious", images={}, values={"srm-spurious": groups}).verdict == claims.HOLDS)
    assert sum(lucky) <= 4
    few = [_statistics(group[:9]) for group in (first, also)]
    assert _row(rows, "srm-spurious", images={}, values={"srm-spurious": few}).verdict == claims.UNDECIDED


def test_a_control_is_taken_off_each_statistic_before_one_is_chosen(rows):
    """The second separates best, but in the control too; the third separates only where it should."""
    rng = np.random.default_rng(1)
    one, two, three, four = rng.normal(size=(4, 60, 3))

    def measured(*groups):
        values = {"srm-spurious-evidence": [_statistics(group) for group in groups]}
        return _row(rows, "srm-spurious-evidence", images={}, values=values)

    first, control = one + [0.0, 4.0, 1.5], three + [0.0, 4.0, 0.0]
    found = measured(first, two, control, four)
    assert found.note == "entropy, best of energy, arrival, entropy" and found.verdict == claims.HOLDS
    order = [(a[:, 2, None] > b[None, :, 2]).mean() for a, b in ((first, two), (control, four))]
    assert found.measured == pytest.approx(order[0] - order[1])
    turned = measured(two, first, four, control)
    assert turned.note == found.note and turned.measured == pytest.approx(found.measured)
    plain = {"srm-spurious": [_statistics(group) for group in (first, two)]}
    assert _row(rows, "srm-spurious", images={}, values=plain).note.startswith("arrival")  # without the control
    same = measured(first, two, first, two)
    assert same.verdict != claims.HOLDS and same.measured == same.high == 0
    # A control that separates the other way round counts in full.
    opposed = measured(first, two, three - [0.0, 4.0, 0.0], four)
    assert opposed.note.startswith("arrival") and opposed.measured > 0.9 and opposed.high > 1 - 0.05


WILSON = 1.959963984540054


@pytest.mark.parametrize("ones, n", [(0, 16), (16, 16), (3, 16), (40, 48)])
def test_shares_have_wilson_intervals(rows, ones, n):
    """(p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n): Wilson 1927."""
    values = np.repeat([1.0, 0.0], [ones, n - ones])
    share, z = ones / n, WILSON
    middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    for given, count in ((values, n), (np.append(values, np.nan), n), (values.astype(int), n), (values == 1, n)):
        found = _row(rows, "srm-phases", images={}, values={"srm-phases": given})
        assert found.measured == share and found.n == count
        np.testing.assert_allclose(
            [found.low, found.high], [(middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1)], atol=1e-12
        )
    if ones == 0:
        assert found.low == 0 and found.high == pytest.approx(z**2 / (n + z**2)) and found.high > 0.19
        assert found.verdict == claims.FAILS  # half or more of the scenes is out of reach
    if ones == n:
        assert found.high == 1 and found.low < 0.81 and found.verdict == claims.HOLDS


def test_values_that_are_no_shares_have_bootstrap_intervals(rows):
    values = np.repeat([1.0, 0.0], [12, 12])  # zeros and ones by chance
    found = _row(rows, "srm-bands", images={}, values={"srm-bands": values})
    assert (found.measured, found.low, found.high) == claims.measuring.mean_interval(values, 0)
    constant = _row(rows, "srm-undamped", images={}, values={"srm-undamped": np.full(12, 0.005)})
    assert constant.low == constant.high == pytest.approx(0.005) and constant.verdict == claims.HOLDS


def _readings(rows, claim, **values) -> pd.Series:
    return _row(rows, claim, images={}, values={claim: values})


def test_where_every_reading_must_hold_the_worst_counts(rows):
    rng = np.random.default_rng(0)
    high, low = rng.normal(1, 0.1, 30), rng.normal(-1, 0.1, 30)
    assert _readings(rows, "msea-coherent", parts=high, iou=high + 1).verdict == claims.HOLDS
    found = _readings(rows, "msea-coherent", parts=high, iou=low)
    assert found.verdict == claims.FAILS and found.measured == pytest.approx(low.mean())
    assert _readings(rows, "msea-coherent", parts=high, iou=high - high.mean()).verdict == claims.UNDECIDED


def test_of_several_readings_the_best_counts(rows):
    rng = np.random.default_rng(0)
    low, high, middle = (rng.normal(mean, 0.2, 40) for mean in (-0.5, 0.5, 0.2))
    found = _readings(rows, "srm-resonance", none=low, encoder=high, attention=middle)
    assert found.verdict == claims.HOLDS and found.measured == pytest.approx(high.mean()) and found.n == 40
    means = f"none {low.mean():+.3f}, encoder {high.mean():+.3f}, attention {middle.mean():+.3f}"
    assert found.note == f"encoder, of {means}"
    # Its interval is wider than it would be alone: that of level 1 - 0.05 / 3.
    expected = claims.measuring.mean_interval(high, 0, 1 - 0.05 / 3)
    np.testing.assert_allclose([found.measured, found.low, found.high], expected)
    alone = _row(rows, "srm-resonance", images={}, values={"srm-resonance": high})
    assert found.low < alone.low < alone.high < found.high
    one = _readings(rows, "srm-resonance", encoder=high)
    assert (one.low, one.high) == (alone.low, alone.high)
    all_fail = _readings(rows, "srm-resonance", none=low, encoder=low - 1, attention=low - 0.1)
    assert all_fail.verdict == claims.FAILS and all_fail.note.startswith("none, of")
    # One that surely fails doesn't decide over a wide one that may hold.
    tight, wide = -0.05 + 0.01 * rng.normal(size=40), rng.normal(0, 2, 40)
    open_still = _readings(rows, "srm-resonance", none=tight, encoder=wide - wide.mean())
    assert open_still.verdict == claims.UNDECIDED and open_still.note.startswith("encoder")


def test_the_best_reading_is_that_of_the_claims_direction(rows):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.002, (3, 40))
    lower = _readings(rows, "srm-alpha", none=noise[0] + 0.95, encoder=noise[1] + 0.3, attention=noise[2] + 0.6)
    assert lower.verdict == claims.HOLDS and lower.note.startswith("encoder")
    for least, sign in (("encoder", 1), ("none", -1)):  # of the modulus minus 1, what is nearest to 0
        shifts = {"none": -0.03, "encoder": 0.004, "attention": 0.02}
        if least == "none":
            shifts = {"none": -0.004, "encoder": 0.03, "attention": 0.02}
        equal = _readings(rows, "srm-undamped", **{k: noise[i] + shifts[k] for i, k in enumerate(shifts)})
        assert equal.verdict == claims.HOLDS and equal.note.startswith(least)
        assert equal.measured == pytest.approx(0.004 * sign, abs=0.002)
    none = _readings(rows, "srm-undamped", none=noise[0] - 0.03, encoder=noise[1] + 0.04, attention=noise[2] + 0.02)
    assert none.verdict == claims.FAILS and none.note.startswith("attention")


def test_the_best_share_of_several_has_a_wilson_interval_for_all(rows):
    readings = {"none": np.zeros(16), "attention": np.repeat([1.0, 0.0], [4, 12]), "encoder": np.zeros(16)}
    found = _readings(rows, "srm-spectrum", **readings)
    z = 2.3939797998185104  # of 1 - 0.05 / 6
    middle, half = 0.25 + z**2 / 32, z * np.sqrt(0.25 * 0.75 / 16 + z**2 / (4 * 16**2))
    np.testing.assert_allclose([found.low, found.high], np.array([middle - half, middle + half]) / (1 + z**2 / 16))
    assert found.note == "attention, of none +0.000, attention +0.250, encoder +0.000"


def test_noise_in_three_readings_holds_no_more_often_than_in_one(rows):
    """With intervals of 95 % each, 7.3 % of such draws would hold; with those for all three, 2.5 %."""
    row = rows[rows.claim == "srm-resonance"]
    holds, named = 0, set()
    for draw in range(200):
        noise = dict(
            zip(("none", "attention", "encoder"), np.random.default_rng(draw).normal(size=(3, 40)), strict=True)
        )
        found = claims.measure(row, {}, values={"srm-resonance": noise}).iloc[0]
        holds += found.verdict == claims.HOLDS
        named.add(found.note.split(",")[0])
    assert holds <= 10 and named == {"none", "attention", "encoder"}


def test_readings_of_which_too_little_is_known_do_not_decide(rows):
    """Three scenes of a tight 0.9 say less than forty of 0.5; one without any value says nothing."""
    many = np.random.default_rng(0).normal(0.5, 0.2, 40)
    few = np.concatenate([[0.9, 0.91, 0.92], np.full(37, np.nan)])
    for name in ("attention", "zero"):
        found = _readings(rows, "srm-frequency-rate", none=few, **{name: many}, encoder=np.full(40, np.nan))
        assert found.verdict == claims.HOLDS and found.note.startswith(name) and found.n == 40
    found = _readings(rows, "srm-frequency-rate", none=few, attention=-many)
    assert found.verdict == claims.FAILS and found.note.startswith("attention")
    found = _readings(rows, "srm-frequency-rate", none=few, encoder=np.full(40, np.nan))
    assert found.verdict == claims.UNDECIDED and found.note.startswith("none") and found.n == 3
    found = _readings(rows, "srm-frequency-rate", none=np.full(40, np.nan))
    assert found.verdict == claims.UNDECIDED and found.n == 0 and np.isnan(found.measured)


def test_what_oscillates_is_measured_in_every_coupling(rows):
    """Each coupling, and the encoder at the model's own temperature, is a claim of its own; other architectures are none."""
    table = rows.set_index("claim")
    for name in ("none", "attention", "encoder", "cold"):
        claim = f"srm-oscillation-{name}"
        assert table.reason[claim] == "" and table.notebook[claim] == "04"
        for values, expected in ((np.ones(16), claims.HOLDS), (np.zeros(16), claims.FAILS)):
            assert _row(rows, claim, images={}, values={claim: values}).verdict == expected
    assert "one over its logit scale" in table.statement_tested["srm-oscillation-cold"]
    assert table.text[[f"srm-oscillation-{name}" for name in ("none", "cold")]].nunique() == 1
    assert table.reason["srm-architectures"] and "srm-architectures" not in claims.SINGLES
    assert claims.fill(rows).verdict.sel(claim="srm-architectures") == claims.UNTESTABLE


def test_what_another_notebook_measured_goes_into_the_ledger(rows):
    values = {"srm-phases": np.zeros(12), "srm-resonance": np.linspace(-1, 1, 12)}
    its_own = rows[rows.notebook == "04"]
    own = claims.fill(its_own, claims.measure(its_own, {}, values=values))
    found = claims.fill(rows, claims.measured_in(own))
    assert found.verdict.sel(claim="srm-phases").item() == claims.FAILS
    xr.testing.assert_equal(found.sel(claim=own.claim), own)


def test_the_change_of_a_map():
    first = xr.DataArray(np.array([[[1.0, 2.0]], [[4.0, 0.0]]]), dims=("sample", "row", "col"))
    second = first + xr.DataArray([0.0, 1.0], dims="sample")
    np.testing.assert_allclose(claims.map_change(first, second), [0, 0.25])
    np.testing.assert_array_equal(claims.map_change(0 * first, 0 * second), [0, 0])
    np.testing.assert_array_equal(claims.map_change(0 * first, first), [np.inf, np.inf])


def test_time_ratios_are_of_the_first_over_the_second():
    clip, scenes = xk.load_clip("tiny-clip"), xk.draw_scenes(4, seed=0)
    slow = claims.time_ratios("grad_eclip", "centre", clip, scenes.image, scenes.caption, rounds=2)
    assert slow.shape == (2,) and (slow > 1).all()


def test_the_papers_arithmetic(rows):
    found = claims.inconsistencies(rows, claims.paper_tables()).set_index("claim")
    assert not found.consistent.any()
    for claim, parts in {
        "mmel-deletion-17": ["0.2346 / 0.2464 - 1 = -4.8 %", "nearest to -17.2 %: -16.4 %"],
        "mmel-insertion-21": ["0.3825 / 0.3838 - 1 = -0.3 %", "nearest to +21.5 %: +15.4 %"],
        "mmel-drop-34": ["0 rows of Grad-ECLIP", "0.92 and 0.94", "lower is better"],
        "mmel-bold": ["3 wrong marks in 16 columns", "bold 0.5993 (Grad-ECLIP2), best 0.6021 (CLIPSurgery)"],
        "mmel-consistent-table-1": ["text increase 5"],
        "mmel-text-like-ks": ["10.15 (21.7 %)", "Saliency 38.96"],
        "mmel-all-benchmarks": ["3 of 12 columns", "0.3527 against 0.3672"],
        "mmel-tokens-197": ["= 50, not 197", "patches of 16"],
        "mmel-four-learnable": ["15 numbers", "2363136", "a loss fits 0"],
        "mmel-layer-weights": ["1.313"],
        "srm-deletion-up": ["as marked, SRM's 0.81 is number 1 of 4", "number 4"],
    }.items():
        for part in parts:
            assert part in found.arithmetic[claim], claim


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        ("mmel-deletion-17", {("2", "MMEL", "deletion @1"): 0.2464 * (1 - 0.172)}),
        ("mmel-bold", {("2", "CLIPSurgery", "insertion @5"): 0.59, ("2", "MMEL", "insertion @5"): 0.595,
                       ("2", "Grad-ECLIP2", "prediction insertion @1"): 0.3526, ("2", "Grad-ECLIP1", "prediction insertion @1"): 0.35,
                       ("2", "CLIPSurgery", "prediction insertion @5"): 0.55}),
        ("mmel-consistent-table-1", {("1", "MMEL", "text increase"): 50.0}),
        ("mmel-text-like-ks", {("1", "MMEL", "text increase"): 40.0}),
        ("mmel-all-benchmarks", {("2", "MMEL", "insertion @1"): 0.9, ("2", "MMEL", "prediction insertion @1"): 0.9,
                                 ("2", "MMEL", "prediction insertion @5"): 0.9}),
        ("mmel-tokens-197", {("text", "section 3.1", "image tokens"): 50}),
        ("mmel-three-datasets", {("text", "section 4.1", "datasets listed"): 3}),
        ("srm-human", {("text", "section 3", "human evaluations reported"): 1}),
    ],
)  # fmt: skip
def test_verdicts_on_the_paper_follow_its_tables(rows, claim, changes):
    """Other numbers in the table, and the same check finds nothing wrong."""
    tables = claims.paper_tables()
    paper = rows.set_index("claim").paper[claim]
    for (table, method, column), value in changes.items():
        cell = (tables.paper == paper) & (tables.table == table) & (tables.method == method) & (tables.column == column)
        assert cell.sum() == 1
        tables.loc[cell, "value"] = value
    assert claims.inconsistencies(rows, tables).set_index("claim").consistent[claim]


def test_the_papers_tables_are_whole():
    tables = claims.paper_tables()
    numbers = tables[tables.table != "text"]
    assert not tables.duplicated(["paper", "table", "method", "column"]).any() and numbers.value.notna().all()
    assert set(numbers.better) == {"higher", "lower"}
    assert numbers.groupby(["paper", "table"]).size().to_dict() == {
        ("MMEL", "1"): 28, ("MMEL", "2"): 40, ("MMEL", "3"): 24, ("SRM", "1"): 8,
    }  # fmt: skip
    assert numbers[numbers.spread.notna()].table.unique().tolist() == ["1"]


def test_inconsistent_claims_stay_so_when_measured(rows):
    found = claims.measure(rows, {"mixed": _measured(mmel=0.3, grad_eclip=0.4)})
    filled = claims.fill(rows, found).sel(claim="mmel-deletion-17")
    assert filled.verdict == claims.INCONSISTENT and filled.measured == pytest.approx(-0.1, abs=0.02)
    assert "-4.8 %" in str(filled.note.values)


def test_filled_ledger_can_be_stored_and_read(rows, tmp_path):
    found = claims.measure(rows, {"mixed": _measured(mmel=0.3, grad_eclip=0.4)})
    filled = claims.fill(rows, found)
    again = store.read(store.write(filled, tmp_path / "claims.nc", "claims"), "claims")
    xr.testing.assert_identical(again, filled.load())
    assert filled.sizes == {"claim": len(rows)}
    table = claims.readable(again)
    assert table.measured["mmel-deletion"].startswith("-0.1") and table.measured["srm-alpha"] == ""
    assert table.verdict["mmel-deletion"] == claims.HOLDS


def test_measured_claims_must_be_in_the_ledger_once(rows):
    found = claims.measure(rows, {"mixed": _measured(mmel=0.3, grad_eclip=0.4)})
    with pytest.raises(ValueError, match="'mmel-none'"):
        claims.fill(rows, found.assign(claim=found.claim.replace("mmel-deletion", "mmel-none")))
    with pytest.raises(ValueError, match="measured once"):
        claims.fill(rows, pd.concat([found, found.iloc[:1]]))


def test_a_method_applies_to_towers_of_transformer_blocks():
    assert claims.applies("mmel", ["tiny-clip", "RN50"]).tolist() == [1.0, 0.0]


def test_clutter_says_nothing_of_a_map_that_knows_nothing(rows):
    """Objects are smaller in clutter: a metric that shrinks with them would make any map fail there."""
    scenes = xk.draw_suite("clutter", 200, seed=1)
    clip = xk.load_clip("tiny-clip")
    noise = xk.explain("random", clip, scenes.image, scenes.caption).assign_attrs(explainer="mmel")
    measured = {"clutter": xk.evaluate(noise, clip, scenes, metrics=["energy", "auroc"])}
    found = _row(rows, "mmel-clutter-10", images=measured, scenes={"clutter": scenes})
    assert found.verdict == claims.UNDECIDED and abs(found.measured) < 0.1


def test_the_pair_that_decides_is_the_one_shown(rows):
    """A noisy rival with the worst mean does not hide the tight one that refutes the claim."""
    rng = np.random.default_rng(0)
    own = rng.normal(0.3, 0.001, 40)
    scores = np.stack([own, own - 0.05 + rng.normal(0, 0.6, 40), own - 0.02, own + 0.01], 1)
    measured = xr.Dataset(
        {"deletion_auc": (("sample", "explainer"), scores)},
        {"explainer": ["mmel", "m2ib", "clip_surgery", "grad_eclip"]},
    )
    found = _row(rows, "mmel-deletion-lowest", images={"mixed": measured})
    assert found.verdict == claims.FAILS and found.low > 0
