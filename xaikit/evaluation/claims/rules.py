"""What must show for a claim to hold: the rows of ``data/claims.csv``, their rules, and the controls that apply to each."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ...clip.model import Clip
from ...explainers.registry import explaining
from ...files.names import spelled
from ...files.paths import data_folder
from ...measures.intervals import listed

DIRECTIONS = ("higher", "lower", "equal")
KINDS = ("compared", "mean", "worst", "share", "excess", "every", "groups", "separated")
UNCORRECTED = "nothing taken off"  # a label of token methods: the steps of TAM and ARC but for their correction

# What knows nothing of the model, by the side that a method explains: whoever doesn't beat these explains nothing.
CONTROLS = {"image": ("random", "centre", "edge"), "text": ("random",), "token": ("random",)}
# What a spectrum must add to, for it to be the spectrum's doing: labels, as ``explain`` takes them. A plain fixed point
# stands on a constant, so that it loses any share of heat for no reason of substance; spectral energy is a square.
RESONANCE_CONTROLS = {
    "srm_fixed_point": "srm_fixed_point",
    "fixed point, floored": ("srm_fixed_point", {"floored": True}),
    "fixed point, squared": ("srm_fixed_point", {"floored": True, "squared": True}),
    "srm_displacement": "srm_displacement",
    "displacement, summed": ("srm_displacement", {"summed": True}),
}

# Of methods whose papers leave the blocks open, the reading that isn't their default.
OTHER_BLOCKS = {"grad_eclip, all blocks": ("grad_eclip", {"blocks": None}), "mmel, last block": ("mmel", {"blocks": 1})}


def beside_controls(
    clip: Clip, methods: Sequence[str] | None = None, perturbations: int = 128, path_steps: int = 16, seed: int = 0
) -> dict[str, tuple[str, dict]]:
    """Methods of the image and all controls, by name, with the options that bound what each may cost, as ``explain`` takes them.

    methods : None for all that can explain the model but Attention-ECLIP, whose maps are Grad-ECLIP's by algebra: one method
    counts once. perturbations : masks of RISE and coalitions of KernelSHAP, for each
    input; below 120 M2IB draws its noise fewer times than ten. path_steps : of integrated gradients. seed : of stochastic methods.

    Examples
    --------
    >>> beside_controls(xk.load_clip(), ["rise"], perturbations=64)["rise"]
    ('rise', {'masks': 64, 'seed': 0})
    """
    budget = {
        "rise": {"masks": perturbations, "seed": seed},
        "kernel_shap": {"samples": perturbations, "seed": seed},
        "integrated_gradients": {"steps": path_steps},
        "m2ib": {"copies": max(1, min(10, perturbations // 12)), "seed": seed},
        "random": {"seed": seed},
    }
    every = [name for name in explaining(clip, "image") if name != "attention_eclip"]
    names = sorted({*methods, *CONTROLS["image"]}) if methods else every
    return {name: (name, budget.get(name, {})) for name in names}


@dataclass(frozen=True)
class Rule:
    """What must show for a claim to hold, as its row of the ledger says.

    kind : "compared", ``first`` minus each of ``second`` on each of ``suites`` by ``metric``, paired over samples, or
        without a second the metric of the first itself. The others are about values that are measured elsewhere:
        "mean" of values (n,), the "worst" of them, or the "share" of those that are 1, not 0; "excess": the mean of hits, 1
        or 0, each less how often chance gives one, or of how much more often it is higher than by chance than lower, -1 to 1;
        "every": a mean of which all readings must hold, not the best; "groups": the mean of one group minus that of another,
        values (n,) and (m,);
        "separated": that a statistic tells two groups of n scenes apart, more than it tells apart two others that are
        without what it should detect: four datasets of k statistics over sample.
    direction, bound : "higher" or "lower" than the bound, or "equal" to 0 within it.
    of : "image", "text" or "token" (of a multimodal LLM's answer). above : what counts is the change from scenes of up to
        this many objects to scenes of more.
    margin : an effect smaller than this is none; 0 for claims of which that can't be said.
    controls : beside ``second``, what the first must beat for the claim to hold, though the claim doesn't name it. Of
        other kinds than "compared" what the values are held against already.
    """

    kind: str
    direction: str
    bound: float
    first: str = ""
    second: tuple[str, ...] = ()
    metric: str = ""
    of: str = ""
    suites: tuple[str, ...] = ()
    above: int | None = None
    margin: float = 0.0
    controls: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Such as "MMEL - Grad-CAM: confidence drop lower than 0, and than that of random, centre and edge"."""
        limit = f"{self.direction} than {self.bound:g}"
        if self.direction == "equal":
            limit = f"equal to 0 within {self.bound:g}"
        if self.kind == "groups":
            return f"first group - second: {limit}"
        if self.kind == "separated":
            return f"AUROC {limit}, and above that of the control"
        if self.kind != "compared":
            return limit
        others = f" - {'each of ' * (len(self.second) > 1)}{listed(self.second, 'and')}" if self.second else ""
        change = f", change above {self.above} objects" if self.above is not None else ""
        beside = f", and than that of {listed(self.controls, 'and')}" if self.controls else ""
        return f"{spelled(self.first)}{others}: {spelled(self.metric)}{change} {limit}{beside}"


def ledger() -> pd.DataFrame:
    """A row a claim: its id, the sentence of the paper that it is read from, whether that ``needs`` "all" of its claims or
    "any" (readings of what it leaves open), paper, where it stands, text, the number claimed, how it is tested, the notebook
    that does so (by its name without the number), whether by "own" ``models``, the same whichever the run is about, the columns
    of its ``Rule``, why it can't be tested where it can't, and
    the argument, which begins with "True by" or "False by", where one decides. All are strings.

    Examples
    --------
    >>> str(rules(ledger())["mmel-drop-gradcam"])
    'MMEL - Grad-CAM: confidence drop lower than 0, and than that of random, centre and edge'
    """
    table = pd.read_csv(data_folder() / "claims.csv", dtype=str, keep_default_na=False)
    alone = table.sentence == ""  # most sentences are read in one way
    return table.assign(sentence=table.sentence.mask(alone, table.claim), needs=table.needs.mask(alone, "all"))


def rules(claims: pd.DataFrame) -> dict[str, Rule]:
    """The rule of each claim, of rows of ``ledger()``, that is decided by a measurement.

    A comparison is against all controls that apply, whether its row names them or not; where none can, because the claim is
    about harm, its row says "none". Raises ValueError for an unknown kind or direction, and for values whose row
    doesn't say what they are held against.
    """
    return {row.claim: _rule(row) for row in claims[claims.kind != ""].itertuples()}


def _rule(row) -> Rule:
    for name, value, known in (("kind", row.kind, KINDS), ("direction", row.direction, DIRECTIONS)):
        if value not in known:
            raise ValueError(f"{row.claim}: {name}={value!r}, choose from {', '.join(known)}")
    second, suites, controls = (_names(cell) for cell in (row.second, row.suites, row.controls))
    if row.kind == "compared" and not controls:
        controls = CONTROLS[row.of] + (tuple(RESONANCE_CONTROLS) if row.first == "srm" else ())
    elif not controls:
        raise ValueError(
            f"{row.claim}: the row doesn't say which controls its values are held against ('none' for none)"
        )
    controls = tuple(name for name in controls if name != "none" and name not in second)
    above = int(row.above) if row.above else None
    numbers = {"above": above, "margin": float(row.margin or 0), "controls": controls}
    return Rule(row.kind, row.direction, float(row.bound), row.first, second, row.metric, row.of, suites, **numbers)


def _names(cell: str) -> tuple[str, ...]:
    return tuple(filter(None, cell.split("; ")))


def paper_tables() -> pd.DataFrame:
    """The papers' tables, a row a cell: paper, table ("text" for numbers in the text), dataset, method (there: place),
    column, which values are better, value, spread, and mark (bold, underlined or empty)."""
    known = {name: str for name in ("paper", "table", "dataset", "method", "column", "better", "mark")}
    return pd.read_csv(data_folder() / "paper_tables.csv", dtype=known).fillna({name: "" for name in known})
