"""The ledger as a table: what was measured of each claim, by stores and values, the verdicts over all of it, and how far they
can be trusted: ledgers of which the truth is known, judged like the papers'."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from ...files.checks import check_number, check_whole
from ...files.store import annotate
from ...measures.intervals import interval_text
from .rules import CONTROLS, ledger, rules
from .verdicts import (
    CONSISTENT,
    FALSE,
    HOLDS,
    INCONSISTENT,
    NUMBERS,
    RATE,
    SAME,
    TRUE,
    UNTESTABLE,
    compared,
    decided,
    of_sentences,
    tested,
    valued,
)

TEXTS = ("sentence", "needs", "paper", "where", "text", "claimed", "statement_tested", "notebook")
RIVALS = ("method", "rival", *CONTROLS["image"])  # of simulated ledgers


def measure(
    claims: pd.DataFrame,
    images: Mapping[str, xr.Dataset],
    words: Mapping[str, xr.Dataset] | None = None,
    values: Mapping[str, object] | None = None,
    seed: int = 0,
    family: int | None = None,
) -> pd.DataFrame:
    """What was measured of each claim that has a rule.

    Parameters
    ----------
    claims : rows of ``ledger()``.
    images, words : what ``evaluate`` gives for maps of the image (or of an answer's tokens), and of the text, by the suites
        that the rules name; the controls' maps among them. Where a claim is about the number of objects, the suite has it as
        the coordinate ``object_count`` (sample).
    values : for claims that are not compared what their rule's kind takes: values (n,), or several by name, readings of a
        claim that leaves open what it means, of which one that holds is enough, each perhaps by what it is held against, all of
        which it must exceed (values beyond a null's may be (n, draws)); or groups.

    family : among how many sentences the smallest detectable effect would have to be found; None for all that the ledger tests.

    Returns
    -------
    A row a claim: measured, low, high (its 95 % interval) and n of that contrast for which it holds least, among those
    with the claim's rivals and with all controls that apply; detectable, the smallest effect that would be found with 80 %
    power among as many sentences as the ledger has; margin, below which an effect is none; p values of its holding, failing and
    having no effect; note. What was not computed is named in the note: without it, a control included, a claim can fail,
    but not hold; a claim of which nothing was computed has only a note.

    Raises ValueError for an unknown claim in ``values``.
    """
    values, known = values or {}, rules(claims)
    valuable = [claim for claim, rule in known.items() if rule.kind != "compared"]
    strange = sorted({*values} - {*valuable})
    if strange:
        raise ValueError(f"values for {strange[0]!r}, which is none of {', '.join(valuable)}")
    family = family or max(each.sentence[each.kind != ""].nunique() for each in (claims, ledger()))
    rows = []
    for claim, rule in known.items():
        if rule.kind != "compared" and claim not in values:
            continue
        if rule.kind == "compared":
            readings, missing = compared(rule, (words if rule.of == "text" else images) or {})
        else:
            readings = valued(rule, values[claim], seed)
            missing = ["the control"] if rule.kind == "separated" and len(values[claim]) < 4 else []
        nothing = {"note": f"not measured: {', '.join(missing)}"}
        rows.append({"claim": claim} | (tested(rule, readings, missing, family) if readings else nothing))
    return pd.DataFrame(rows, columns=["claim", *NUMBERS, "note"]).astype(dict.fromkeys(NUMBERS, float))


def fill(
    claims: pd.DataFrame,
    measured: pd.DataFrame | None = None,
    checked: pd.DataFrame | None = None,
    rate: float = RATE,
) -> xr.Dataset:
    """The ledger with a verdict a sentence, which all claims read from it share, as a dataset of the stage ``claims``:
    variables over ``claim``.

    measured: rows of ``measure``. False discoveries are kept to ``rate`` over all sentences that measurement decides (so that
    a verdict can change with those beside it). checked: rows of claim, consistent and arithmetic, of claims held
    against the paper's own numbers. A sentence that these contradict is inconsistent whatever was measured, and the note has
    the arithmetic; one of which nothing but that can be
    asked, and that they confirm, is consistent; one that an argument decides is true or false by it, which the note has; one of which
    nothing was measured says who fills it. Of one that says several things what can't be tested doesn't count beside what can;
    claims of it that stand in the whole ledger and not in ``claims`` count as not measured.
    Raises ValueError for a measured claim that isn't in the ledger, or is measured twice.
    """
    table = claims.set_index("claim")
    rows = pd.DataFrame(columns=["claim", *NUMBERS, "note"]) if measured is None else measured
    rows = rows.set_index("claim")
    strange = [*rows.index[~rows.index.isin(table.index)], *rows.index[rows.index.duplicated()]]
    if strange:
        raise ValueError(f"measured claim {strange[0]!r}: it must be in the ledger, and measured once")
    checked = pd.DataFrame(columns=["claim", "consistent", "arithmetic"]) if checked is None else checked
    checked = checked.set_index("claim").reindex(table.index)
    argued = [table.argument.str.startswith(f"{word} ") for word in ("True", "False")]
    cases = [checked.consistent.eq(False), table.reason.ne(""), *argued]
    rows = rows.reindex(table.index)
    group = table.sentence
    # By no measurement: such sentences take no part in the corrections.
    agreed = checked.consistent.eq(True) & table.kind.eq("")
    whole = (*cases, agreed), ("any", *["all"] * 4)
    settled = [of.groupby(group).transform(each) for of, each in zip(*whole, strict=True)]
    to_test = ~np.any([settled[0], *cases, agreed], axis=0)
    parts = rows.join(table[["sentence", "needs"]])[to_test]
    measured_parts = parts[parts.n.notna().groupby(group).transform("any")]
    # Of claims of these sentences that aren't in this part of the ledger nothing is known.
    whole_ledger = ledger().set_index("claim")
    left_out = whole_ledger.sentence.isin(measured_parts.sentence) & whole_ledger.kind.ne("")
    left_out = whole_ledger.loc[left_out & ~whole_ledger.index.isin(table.index), ["sentence", "needs"]]
    measured_parts = pd.concat([measured_parts, left_out]) if len(left_out) else measured_parts
    verdict = group.map(decided(of_sentences(measured_parts), rate).astype(object)).astype(object)
    verdicts = np.select(
        [*settled, verdict.notna()],
        [INCONSISTENT, UNTESTABLE, TRUE, FALSE, CONSISTENT, verdict.fillna("")],
        "filled by notebook " + table.notebook.groupby(group).transform("first"),
    )
    arithmetic = checked.arithmetic.fillna("")
    note = np.select(
        [*cases, agreed], [arithmetic, table.reason, table.argument, table.argument, arithmetic], rows.note.fillna("")
    )
    out = xr.Dataset(coords={"claim": table.index.to_numpy(str)})
    for known, names, kind in ((table, TEXTS, str), (rows, NUMBERS, float)):
        for name in names:
            out[name] = ("claim", known[name].to_numpy(kind))
    out["verdict"], out["note"] = ("claim", verdicts.astype(str)), ("claim", note.astype(str))
    known = rules(claims)
    out["holds_if"] = ("claim", [str(known.get(claim, "")) for claim in table.index])
    return annotate(out, "claims")


def measured_in(filled: xr.Dataset) -> pd.DataFrame:
    """The rows of ``measure`` that went into a filled ledger, such as another notebook's, to go on with."""
    rows = filled[[*NUMBERS, "note"]].to_dataframe().reset_index()
    return rows[rows.n.notna()].reset_index(drop=True)


def readable(filled: xr.Dataset, digits: int = 3) -> pd.DataFrame:
    """A row a claim for reading: paper, place, text, what was claimed, "mean [low, high]" to so many decimals, the smallest
    effect that could have been found, what makes it hold, verdict (with the margin below which there is no effect) and note.
    """
    numbers = zip(*(filled[name].values for name in NUMBERS[:3]), strict=True)
    shown = ["" if np.isnan(row[0]) else interval_text(*row, digits, signed=True) for row in numbers]
    table = filled[["paper", "where", "text", "claimed", "holds_if", "verdict", "note"]].to_dataframe()
    table.insert(4, "measured", shown)
    found = filled.detectable.values
    table.insert(5, "detectable", ["" if np.isnan(each) else f"{each:.{digits}f}" for each in found])
    same = table.verdict == SAME
    table.loc[same, "verdict"] = [f"{SAME} (smaller than {each:g})" for each in filled.margin.values[same]]
    return table


def by_sentence(filled: xr.Dataset, digits: int = 3) -> pd.DataFrame:
    """The ledger as it is read: a row a claim, by sentence and claim, with the paper, the paper's words and the verdict once a
    sentence, whether it needs "all" of its claims or "any", and of each claim what was measured and below which margin an
    effect is none.

    Examples
    --------
    >>> by_sentence(fill(ledger())).loc["srm-oscillation"].verdict.tolist()
    ['filled by notebook srm_spectral', '', '', '']
    """
    own = {name: filled[name].values for name in ("sentence", "needs", "verdict")}
    table = readable(filled, digits).assign(**own)
    table.insert(6, "margin", [f"{each:g}" if each > 0 else "" for each in filled.margin.values])
    order = {name: place for place, name in enumerate(dict.fromkeys(table.sentence))}
    table = table.iloc[np.argsort(table.sentence.map(order), kind="stable")]
    later, many = table.sentence.duplicated(), table.sentence.duplicated(keep=False)
    table["needs"] = table.needs.where(many, "")
    once = ["paper", "text", "needs", "verdict"]
    # Parts of a sentence can be quoted apart.
    same = table[once].eq(table.groupby("sentence")[once].transform("first")).mul(later, axis=0)
    table[once] = table[once].mask(same, "")
    return table.set_index(["sentence", table.index])


def verdicts_of(filled: xr.Dataset) -> pd.Series:
    """The verdict of each sentence, each counted once."""
    return pd.Series(filled.verdict.values, filled.sentence.values, name="verdict").groupby(level=0, sort=False).first()


def calibration(
    ledgers: int = 200, claims: int = 40, scenes: int = 40, true: int = 4, seed: int = 0, rate: float = RATE
) -> pd.DataFrame:
    """What the ledger says of simulated claims that a method is better than a rival.

    In each ledger ``true`` of the claims are so, by just the effect that their row says it could have found; in the others
    method and rival are equally good. All beat the controls, so that these rule out no false one: the worst case. Scores
    share the difficulty of their scene, and the method's are skewed. Sentences of one claim each; how often "does not hold" and
    "no effect" are wrong isn't simulated. rate : of false discoveries.

    Returns a row a ledger: ``false``, claims without effect that are said to hold, and ``found``, the share of the true ones
    that are (NaN for none). Without a true one at most a share ``rate`` of the ledgers should have a false one; found should
    be at least 0.8 on average.

    Examples
    --------
    >>> xk.evaluation.claims.calibration(ledgers=2, claims=3, true=0).columns.tolist()
    ['false', 'found']
    """
    check_whole(1, ledgers=ledgers, claims=claims, scenes=scenes)
    check_whole(0, claims, true=true)
    check_number(0, 1, rate=rate)
    draws = np.random.default_rng(seed)
    table = _claims(claims)
    rows = []
    for _ in range(ledgers):
        scores = _scores(draws, claims, scenes)
        detectable = measure(table, {"mixed": scores}, family=claims).detectable if true else np.zeros(claims)
        for name, effect in zip(table.metric[:true], detectable, strict=False):
            scores[name].loc[{"explainer": "method"}] += effect
        holds = decided(measure(table, {"mixed": scores}, family=claims), rate).to_numpy() == HOLDS
        rows.append({"false": holds[true:].sum(), "found": holds[:true].mean() if true else np.nan})
    return pd.DataFrame(rows)


def _claims(count: int) -> pd.DataFrame:
    """Rows as those of the ledger, each by a metric of its own."""
    given = {"kind": "compared", "first": "method", "second": "rival", "of": "image", "suites": "mixed"}
    given |= {"direction": "higher", "bound": "0", "margin": "0.01"}
    blank = "paper where text claimed statement_tested notebook above controls reason argument".split()
    names = [f"score-{index}" for index in range(count)]
    return pd.DataFrame({"claim": names, "sentence": names, "metric": names} | given | dict.fromkeys(blank, ""))


def _scores(draws: np.random.Generator, count: int, scenes: int) -> xr.Dataset:
    """Scores (sample, explainer) of all: the method as good as its rival, and the controls far worse."""
    shared = draws.normal(0, 0.3, (count, scenes, 1))
    own = 0.1 * draws.normal(size=(count, scenes, len(RIVALS)))
    own[..., 0] = 0.05 * (4 - draws.gamma(4, size=(count, scenes)))  # seldom very bad
    own[..., 2:] -= 0.5
    dims = ("sample", "explainer")
    return xr.Dataset(
        {f"score-{index}": (dims, values) for index, values in enumerate(shared + own)}, {"explainer": list(RIVALS)}
    )
