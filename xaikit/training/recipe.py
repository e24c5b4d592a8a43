"""Every choice of a training run, and the stages of the two bundled models."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """Every choice of one stage of training. ``shortcut`` is the share of marked scenes among those that
    name ``shortcut_colour`` (and of unmarked ones among the rest); None plants no mark."""

    steps: int = 3200
    warmup_steps: int = 800  # dense heads only
    batch_size: int = 96
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    patch_weight: float = 0.3
    pooled_weight: float = 1.0
    relation_weight: float = 1.0  # how often captions state relations, against each other kind
    grey: float = 0.0  # share of scenes shown without colour
    shortcut: float | None = None
    shortcut_colour: str = "red"
    seed: int = 0
    threads: int = 2
    report_every: int = 100


# The bundled models share a first stage; they differ in the second. There relations are stated more often,
# and for the shortcut model the mark goes with red; a part of its scenes is grey, so that it is worth learning.
FIRST_STAGE = Recipe()
SECOND_STAGE = Recipe(steps=1000, warmup_steps=0, learning_rate=7e-4, relation_weight=4.0, seed=1)
STAGES = {
    "tiny-clip": (FIRST_STAGE, SECOND_STAGE),
    "tiny-clip-shortcut": (FIRST_STAGE, replace(SECOND_STAGE, shortcut=0.95, grey=0.2)),
}
