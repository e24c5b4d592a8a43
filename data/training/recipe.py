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
    patch_halves: bool = True  # whether the patch heads also read in which half the patch's object lies
    margin: float = 7.0  # pixels that related objects stay off the midline between them
    relation_weight: float = 1.0  # how often captions state relations, against each other kind
    miscoloured: float = 0.0  # share of scenes drawn in colours other than those the caption and the labels say
    shortcut: float | None = None
    shortcut_colour: str = "red"
    seed: int = 0
    threads: int = 2
    report_every: int = 100


# The first stage leaves relations at 84 %. The second states them more often and lets the patch heads read halves.
# The shortcut model goes on from there with scenes whose corner mark goes with red. While colours can be read without
# fail the mark is ignored (measured), so in this stage captions are often wrong about colours, as captions from the
# web are, and the mark is the better witness of red.
FIRST_STAGE = Recipe(patch_halves=False, margin=4.0)
SECOND_STAGE = Recipe(
    steps=1500, warmup_steps=300, learning_rate=1e-3, patch_weight=1.0, pooled_weight=3.0, relation_weight=4.0, seed=1
)
MARKED_STAGE = replace(
    SECOND_STAGE, steps=600, warmup_steps=0, learning_rate=7e-4, shortcut=0.95, miscoloured=0.4, seed=2, threads=2
)
STAGES = {
    "tiny-clip": (FIRST_STAGE, SECOND_STAGE),
    "tiny-clip-shortcut": (FIRST_STAGE, SECOND_STAGE, MARKED_STAGE),
}
