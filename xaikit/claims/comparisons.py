"""How each claim that can be measured is measured: declared, a line a claim."""

from dataclasses import dataclass

HOLDS, FAILS, UNDECIDED = "holds here", "does not hold here", "cannot be decided here"
INCONSISTENT, UNTESTABLE = "inconsistent in the paper", "cannot be tested here"
DIRECTIONS = ("higher", "lower", "equal")
FEWEST = 10  # scenes: a bootstrap over fewer is too narrow to decide by
ROUNDING = 1e-6  # an interval this near to the bound holds it: scores are float32

TABLE_1 = ("gradcam", "saliency", "kernel_shap", "rise", "chefer", "m2ib")
TABLE_2 = ("clip_surgery", "m2ib", "grad_eclip")
SRM_TABLE_1 = ("gradcam", "integrated_gradients", "kernel_shap")
TABLE_3 = ("raw_attention", "rollout", "m2ib", "grad_eclip")
BASELINES = ("grad_eclip", *TABLE_1, "attention_flow", "raw_attention")  # MMEL, section 4.3
TOKEN_BASELINES = ("lens", "tam", "attention", "rollout", "gradient_x_input", "grad_cam")  # of MSEA with ARC
UNCORRECTED = "nothing taken off"  # the steps of TAM and ARC but for their correction
DESCRIBED = ("described", "misleading")  # scenes of two objects; of three or four, whose answers may mislead
EVERYWHERE = ("mixed", "single", "relation", "attribute", "clutter", "word")
# The explainers of the suite "ablation", on the mixed scenes: method and options of each.
VARIANTS: dict[str, tuple[str, dict]] = {
    "mmel": ("mmel", {}),
    "one scale": ("mmel", {"scales": (1.0,)}),
    "no enhancement": ("mmel", {"alpha": 0.0}),
    "late blocks count more": ("mmel", {"theta_slope": 1.0}),
    "grad_eclip": ("grad_eclip", {}),
    "grad_eclip as released": ("grad_eclip", {"reference": True}),
}


@dataclass(frozen=True)
class Comparison:
    """A claim as a paired difference over samples: ``first`` minus each of ``second``, on each of ``suites``; without a
    second, the metric of the first itself.

    direction, bound: see ``verdict``. of: "image" or "text". above: what counts is its change, from scenes of up to this
    many objects to scenes of more.
    """

    metric: str
    second: tuple[str, ...]
    direction: str
    suites: tuple[str, ...] = ("mixed",)
    first: str = "mmel"
    bound: float = 0.0
    of: str = "image"
    above: int | None = None


@dataclass(frozen=True)
class Single:
    """A claim about values (n,) that are measured elsewhere; worst: about the worst of them instead of their mean; share:
    they are 1 for a scene of which it is true, else 0; every: of several readings all count, not the best."""

    direction: str
    bound: float
    worst: bool = False
    share: bool = False
    every: bool = False


@dataclass(frozen=True)
class Difference:
    """A claim about the mean of one group of scenes minus that of another: values (first (n,), second (m,))."""

    direction: str
    bound: float = 0.0


@dataclass(frozen=True)
class Separation:
    """A claim that a statistic tells two groups apart, of the same n scenes: values are two datasets of k statistics over
    sample, or four, the latter two of a control whose AUROC is taken off. It counts the statistic for which the result is
    largest, with an interval that holds for all k at once (Bonferroni).

    bound: that the AUROC, turned so that it is above 0.5, must exceed; with a control, that the difference must.
    """

    bound: float = 0.5
    direction: str = "higher"


_GRAD_ECLIP, _ABLATION = ("grad_eclip",), ("ablation",)
COMPARISONS: dict[str, Comparison] = {
    "mmel-deletion-17": Comparison("deletion_auc", _GRAD_ECLIP, "lower"),
    "mmel-insertion-21": Comparison("insertion_auc", _GRAD_ECLIP, "higher"),
    "mmel-drop-34": Comparison("confidence_drop", _GRAD_ECLIP, "higher"),
    "mmel-deletion": Comparison("deletion_auc", _GRAD_ECLIP, "lower"),
    "mmel-insertion": Comparison("insertion_auc", _GRAD_ECLIP, "higher"),
    "mmel-deletion-lowest": Comparison("deletion_auc", TABLE_2, "lower"),
    "mmel-insertion-competitive": Comparison("insertion_auc", TABLE_2, "higher", bound=-0.01),
    "mmel-deletion-diverse": Comparison("deletion_auc", BASELINES, "lower", EVERYWHERE),
    "mmel-insertion-diverse": Comparison("insertion_auc", BASELINES, "higher", EVERYWHERE),
    "mmel-drop-gradcam": Comparison("confidence_drop", ("gradcam",), "lower"),
    "mmel-increase-gradcam": Comparison("confidence_increase", ("gradcam",), "higher"),
    "mmel-drop-baselines": Comparison("confidence_drop", TABLE_1, "lower"),
    "mmel-increase-baselines": Comparison("confidence_increase", TABLE_1, "higher"),
    "mmel-drop-diverse": Comparison("confidence_drop", TABLE_1, "lower", EVERYWHERE),
    "mmel-increase-diverse": Comparison("confidence_increase", TABLE_1, "higher", EVERYWHERE),
    "mmel-occlusion": Comparison("occlusion", (), "higher"),
    "mmel-text-drop": Comparison("word_confidence_drop", TABLE_1, "lower", of="text"),
    "mmel-text-increase": Comparison("word_confidence_increase", ("kernel_shap",), "higher", bound=-10, of="text"),
    "mmel-text-deletion": Comparison("word_deletion_auc", TABLE_3, "lower", of="text"),
    "mmel-text-insertion": Comparison("word_insertion_auc", TABLE_3, "higher", of="text"),
    "mmel-coverage": Comparison("smallest_share", _GRAD_ECLIP, "higher"),
    "mmel-coverage-relation": Comparison("smallest_share", _GRAD_ECLIP, "higher", ("relation",)),
    "mmel-coverage-clutter": Comparison("smallest_share", _GRAD_ECLIP, "higher", ("clutter",)),
    "mmel-completeness": Comparison("smallest_share", BASELINES, "higher"),
    "mmel-region": Comparison("iou_best", BASELINES, "higher"),
    "mmel-pointing": Comparison("pointing_game", BASELINES, "higher"),
    "mmel-noise": Comparison("energy", BASELINES, "higher"),
    "mmel-word-focus": Comparison("energy", ("m2ib", "grad_eclip"), "higher", ("word",)),
    "mmel-word-region": Comparison("iou_best", ("m2ib", "grad_eclip"), "higher", ("word",)),
    "mmel-clutter-10": Comparison("auroc", (), "lower", ("clutter",), above=10),
    "mmel-clutter-scales": Comparison("auroc", _GRAD_ECLIP, "lower", ("clutter",), above=10),
    "mmel-multiscale": Comparison("insertion_auc", ("one scale",), "higher", _ABLATION),
    "mmel-enhancement": Comparison("insertion_auc", ("no enhancement",), "higher", _ABLATION),
    "mmel-weights-matter": Comparison("insertion_auc", ("mmel",), "higher", _ABLATION, "late blocks count more"),
    "mmel-similarity": Comparison("insertion_auc", _GRAD_ECLIP, "higher", _ABLATION, "no enhancement"),
    "debunk-misaligned": Comparison("deletion_auc", _GRAD_ECLIP, "higher", _ABLATION, "grad_eclip as released"),
    "srm-deletion": Comparison("deletion_auc", SRM_TABLE_1, "lower", first="srm"),
    "srm-deletion-marked": Comparison("deletion_auc", SRM_TABLE_1, "higher", first="srm"),
    "srm-insertion": Comparison("insertion_auc", SRM_TABLE_1, "higher", first="srm"),
    "srm-faithful": Comparison("insertion_auc", ("grad_eclip", "srm_fixed_point"), "higher", first="srm"),
    "srm-faithful-deletion": Comparison("deletion_auc", ("grad_eclip", "srm_fixed_point"), "lower", first="srm"),
    "srm-amplitude-regions": Comparison("energy", ("srm_fixed_point",), "higher", first="srm"),
    "srm-static-miss": Comparison("insertion_auc", ("srm_fixed_point",), "higher", first="srm"),
    "msea-outperforms": Comparison("answer_f1", TOKEN_BASELINES, "higher", DESCRIBED[:1], "msea+arc"),
    "msea-faithful": Comparison("insertion_minus_deletion", ("tam",), "higher", DESCRIBED[:1], "msea+arc"),
    "arc-suppresses": Comparison("leakage_earlier", (UNCORRECTED, "tam"), "lower", DESCRIBED, "arc"),
    "arc-preserves": Comparison("own_share", ("tam",), "higher", DESCRIBED, "arc", bound=-0.01),
}
SINGLES: dict[str, Single | Difference | Separation] = {
    "mmel-scales-cancel": Single("higher", 0.01),  # change of the map with the scale, scaling="multiply"
    "mmel-sanity": Single("lower", 0.5),  # rank correlation with the maps of a model of random blocks
    "mmel-overhead": Single("lower", 1.15),  # times, mmel over grad_eclip
    "mmel-any-clip": Single("higher", 0.5, worst=True),  # 1 for a tower that mmel explains, else 0
    "debunk-equal": Single("equal", 1e-4, worst=True),  # change of the map, attention_eclip for grad_eclip
    "debunk-simpler": Single("lower", 1.0),  # times, attention_eclip over grad_eclip
    "debunk-other-model": Single("higher", 0.01),  # change of the map, released for the true model
    "srm-compositional": Difference("higher"),  # insertion AUC, srm minus gradcam: relation scenes, single ones
    "srm-resonance": Single("higher", 0.01),  # change of a word's share on its own object
    "srm-oscillation-none": Single(
        "higher", 0.5, share=True
    ),  # 1 for a scene whose map swings, cycles or is restless, else 0; so on
    "srm-oscillation-attention": Single("higher", 0.5, share=True),
    "srm-oscillation-encoder": Single("higher", 0.5, share=True),
    "srm-oscillation-cold": Single("higher", 0.5, share=True),
    "srm-spectrum": Single("higher", 0.5, share=True),  # 1 for a scene with a peak above the nulls, else 0
    "srm-undamped": Single("equal", 0.01),  # modulus of the leading oscillating mode, minus 1
    "srm-frequency-rate": Single("higher", 0.0),  # rank correlation
    "srm-bands": Single("higher", 0.0),  # spatial frequency, high band minus low
    "srm-hierarchy": Single("higher", 0.0),  # adjusted mutual information minus that of the null
    "srm-hierarchy-static": Single("higher", 0.0),  # ... of k-means on features
    "srm-phases": Single("higher", 0.5, share=True),  # 1 for a scene with three phases, else 0
    "srm-phase-places": Single("higher", 0.5, share=True),  # 1 for a scene with change points at 5 and 15, else 0
    "srm-relational-focusing": Single("higher", 0.01),  # change of the share of heat
    "srm-spurious": Separation(),  # statistics of the two bundled models
    "srm-spurious-evidence": Separation(0.0),  # ... and those without the mark
    "srm-composition-detect": Separation(),  # statistics of true captions and foils
    "srm-alpha": Single("lower", 0.9),  # rank correlation of maps between alphas
    "srm-passes": Single("higher", 1.5),  # passes of all blocks of the image tower, a scene
    "msea-fragmented": Single("higher", 0.5),  # connected parts of one scale's maps minus those of the masks
    "msea-coherent": Single("higher", 0.0, every=True),  # connected parts that are fewer, IoU that is higher
    "msea-scale-sensitive": Single("higher", 0.01),  # F1-IoU, best set of scales minus worst, chosen on other scenes
    "arc-spurious": Single("higher", 0.01),  # change of a word's raw map when the words before it are others
    "arc-rank": Single("higher", 0.5),  # AUROC of rank overlap, contexts on the same object against others
}


def rule(claim: str) -> str:
    """What the interval of a claim must show for it to hold, such as "mmel - grad_eclip: deletion_auc lower than 0";
    empty where nothing is measured."""
    test = COMPARISONS.get(claim) or SINGLES.get(claim)
    if test is None:
        return ""
    limit = (
        f"equal to 0 within {test.bound:g}" if test.direction == "equal" else f"{test.direction} than {test.bound:g}"
    )
    if isinstance(test, Difference):
        return f"first group - second: {limit}"
    if isinstance(test, Separation):
        return f"AUROC{' - that of the control' if test.bound == 0 else ''} {limit}"
    if isinstance(test, Single):
        return limit
    others = f" - each of {', '.join(test.second)}" if len(test.second) > 1 else "".join(f" - {s}" for s in test.second)
    change = f", change above {test.above} objects" if test.above is not None else ""
    return f"{test.first}{others}: {test.metric}{change} {limit}"
