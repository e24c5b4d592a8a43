"""From random numbers to scenes: layouts and true statements about them, then pictures, masks and words as a dataset.

Scenes with a clear reading order can be described as a whole: two objects along the axis that separates them more, three and
more from left to right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import xarray as xr

from ..files.checks import check_names, check_number, check_options, check_whole
from ..files.store import annotate
from .captions import KINDS, NEEDED, NUMBERS, SIZE_WORDS, Statement, sentence, state, words
from .source import as_inputs
from .worlds import find_world
from .worlds.layout import COLOURS, FRAME, MAX_OBJECTS, MIDLINE_MARGIN, RELATIONS, Layout, World, sample_layout

SIZED_UP_TO = 4  # objects; in fuller scenes "large" objects are smaller than "small" ones elsewhere
PIXELS_AT_ONCE = 128 * 64 * 64  # of scenes drawn together: bounds the memory
SIZE_RANGE = (32, 512)  # pixels a side
READING_MARGIN = 6.0  # units by which one axis must separate two objects more than the other, and neighbours of a list
DRAWN_AT_ONCE = 4  # layouts drawn for each one that is wanted: most have no clear reading order
FILLED = 0.35  # the share of the picture that the squares around all objects may take up
# Each concern has its own random stream, so that adding a mark, say, changes nothing else in a scene.
LAYOUT, PIXELS, MARK, STYLE = range(4)


@dataclass(frozen=True)
class Drawing:
    """How scenes are drawn; see ``draw_scenes``, whose keywords these are."""

    world: str = "shapes"
    size: int | None = None
    styles: str | Sequence[str] | None = None
    smallest: float = 0.0
    template: str = "{}"

    def __post_init__(self):
        made = find_world(self.world)
        if self.size is not None:
            check_whole(*SIZE_RANGE, size=self.size)
        if self.styles is not None:
            check_names(made.styles, styles=(self.styles,) if isinstance(self.styles, str) else self.styles)
        check_number(0, self.pixels, "width in pixels", smallest=self.smallest)
        if not isinstance(self.template, str) or self.template.count("{}") != 1:
            raise ValueError(
                f"template={self.template!r}: a text with one {{}} for the caption is needed, 'a photo of {{}}'"
            )
        around = self.template.lower().replace("{}", " ").split()
        telling = {word for name in (*made.nouns, *made.plurals) for word in name.split()}
        if said := [word for word in around if word in {*telling, *SIZE_WORDS, *COLOURS, *NUMBERS}]:
            raise ValueError(
                f"template={self.template!r}: {said[0]!r} would say something of the scene, give other words"
            )

    @classmethod
    def of(cls, drawing: Mapping[str, object]) -> "Drawing":
        """From the keywords of a function that draws scenes. Raises ValueError for an unknown one."""
        check_options("drawing", drawing, [each.name for each in fields(cls)])
        return cls(**drawing)

    @property
    def made(self) -> World:
        return find_world(self.world)

    @property
    def pixels(self) -> int:
        return self.size or self.made.size

    @property
    def style_indices(self) -> np.ndarray:
        """The styles to choose from, as indices into the world's."""
        names = (self.styles,) if isinstance(self.styles, str) else self.styles or self.made.styles
        return np.array([self.made.styles.index(name) for name in names])

    def draw_styles(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """The style (n,) of each of n scenes, by chance among those allowed."""
        return self.style_indices[rng.integers(len(self.style_indices), size=n)]

    @property
    def least_radius(self) -> float:
        """The smallest radius in units of a layout."""
        return self.smallest / 2 * FRAME / self.pixels

    def check_room(self, objects: int) -> None:
        """Raise ValueError where so many objects can't all be of the smallest width and stand apart."""
        side = self.smallest / self.made.extent
        most = int(FILLED * self.pixels**2 / side**2) if side else MAX_OBJECTS
        if objects > most:
            raise ValueError(
                f"smallest={self.smallest:g}: {objects} objects so wide don't fit into {self.pixels} pixels, at most"
                f" {most} do: ask for fewer objects, smaller ones or a larger size"
            )


def check_scenes(n: int, objects: tuple[int, int], kinds: tuple[str, ...], similar: float) -> None:
    """Refuse impossible requests in one sentence each."""
    check_whole(1, n=n)
    try:
        low, high = objects
    except (TypeError, ValueError):
        raise ValueError(f"objects={objects!r}: give (fewest, most), such as (2, 4)") from None
    check_whole(fewest=low, most=high)
    if not 1 <= low <= high <= MAX_OBJECTS:
        raise ValueError(f"objects={objects}: give (fewest, most) with 1 <= fewest <= most <= {MAX_OBJECTS}")
    check_names(KINDS, captions=kinds)
    impossible = [kind for kind in kinds if NEEDED[kind] > low]
    if len(impossible) == len(kinds):
        raise ValueError(f"objects={objects}: a caption of kind {impossible[0]!r} needs at least 2 objects a scene")
    check_number(0, 1, "share", similar=similar)


def compose(
    drawing: Drawing,
    rng: np.random.Generator,
    n: int,
    objects: tuple[int, int] = (1, 4),
    kinds: tuple[str, ...] = KINDS,
    similar: float = 0.5,
    sized: float = 0.5,
    swappable: bool = False,
    relation_weight: float = 1.0,
    margin: float = MIDLINE_MARGIN,
    fewest: int = 2,
    **attributes,
) -> tuple[Layout, Statement, np.ndarray]:
    """Draw n layouts, a true statement about each, and the statement's kind (n,) as an index into KINDS.

    sized: probability that a caption uses size words, in scenes where these are unambiguous.
    swappable: see ``sample_layout``. relation_weight: how often relations are stated, against each other kind.
    margin: how far related objects stay off the midline between them. fewest: of
    what is counted. attributes: options of the world's own.
    """
    check_scenes(n, objects, kinds, similar)
    drawing.check_room(objects[1])
    count = rng.integers(objects[0], objects[1] + 1, n)
    feasible = np.isin(KINDS, kinds) & (count[:, None] >= [*NEEDED.values()])
    weight = np.where(np.array(KINDS) == "relation", relation_weight, 1.0)
    kind = np.where(feasible, rng.random((n, len(KINDS))) ** (1 / weight), -1).argmax(1)
    relation = np.where(kind == KINDS.index("relation"), rng.integers(0, len(RELATIONS), n), -1)
    most = np.minimum(count, len(NUMBERS) + 1)
    number = np.where(kind == KINDS.index("count"), rng.integers(fewest, np.maximum(most, fewest) + 1), 1)
    layout = sample_layout(
        drawing.made, rng, count, relation, number, similar, swappable, margin, drawing.least_radius, **attributes
    )
    listed = np.where(count >= 3, rng.integers(2, 4, n), 2)
    named = np.select([kind == KINDS.index("relation"), kind == KINDS.index("list")], [2, listed], 1)
    unambiguous = (count <= SIZED_UP_TO) & (drawing.least_radius == 0) & (len(drawing.made.sizes) > 0)
    says_size = (rng.random(n) < sized) & unambiguous & (number == 1)
    return layout, state(layout, named, relation, number, says_size), kind


def stream(seed: int, concern: int) -> np.random.Generator:
    """The random numbers of one concern (LAYOUT, MARK or STYLE). Raises ValueError for a negative seed, or no number."""
    check_whole(0, seed=seed)
    return np.random.default_rng((seed, concern))


def describable(
    drawing: Drawing,
    rng: np.random.Generator,
    n: int,
    objects: tuple[int, int],
    similar: float,
    share: np.ndarray | None = None,
) -> tuple[Layout, np.ndarray]:
    """Draw n layouts with a clear reading order, their objects in that order, and the relation (n,) that the first two
    would be described by, an index into ``RELATIONS``. share: how often each number of objects is drawn."""
    count = rng.choice(np.arange(objects[0], objects[1] + 1), n, p=share)
    together: dict[str, np.ndarray] = {}
    missing = np.arange(n)
    while len(missing):
        tried = np.repeat(missing, DRAWN_AT_ONCE)
        none = np.full(len(tried), -1)
        alone = np.ones(len(tried), int)
        drawn = sample_layout(drawing.made, rng, count[tried], none, alone, similar, smallest=drawing.least_radius)
        drawn = _in_reading_order(drawn)
        clear = np.flatnonzero(_reads_clearly(drawn))
        scene, first = np.unique(tried[clear], return_index=True)
        for name, values in vars(drawn).items():
            empty = np.full((n, objects[1]), -1e3 if name in ("x", "y") else 0, values.dtype)
            together.setdefault(name, empty)[scene, : values.shape[1]] = values[clear[first]]
        missing = np.setdiff1d(missing, scene)
    layout = Layout(**together)
    return layout, _relation(layout)


def _gaps(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """How far the second object lies from the first, across and down."""
    if layout.x.shape[1] < 2:
        return np.zeros(len(layout.x)), np.zeros(len(layout.x))
    return layout.x[:, 1] - layout.x[:, 0], layout.y[:, 1] - layout.y[:, 0]


def _relation(layout: Layout) -> np.ndarray:
    across, down = _gaps(layout)
    return np.where(np.abs(across) > np.abs(down), RELATIONS.index("left of"), RELATIONS.index("above"))


def _in_reading_order(layout: Layout) -> Layout:
    """The same scenes with their objects numbered from left to right, or from top to bottom where two are so related."""
    two = layout.exists.sum(1) == 2
    downwards = two & (_relation(layout) == RELATIONS.index("above"))
    key = np.where(downwards[:, None], layout.y, layout.x)
    order = np.argsort(np.where(layout.exists, key, np.inf), axis=1, kind="stable")
    return Layout(**{name: np.take_along_axis(value, order, 1) for name, value in vars(layout).items()})


def _reads_clearly(layout: Layout) -> np.ndarray:
    """Whether the reading order of each scene (in order already) is beyond doubt."""
    across, down = map(np.abs, _gaps(layout))
    count = layout.exists.sum(1)
    neighbours = layout.exists[:, 1:]
    apart = (np.where(neighbours, np.diff(layout.x, axis=1), np.inf) >= READING_MARGIN).all(1)
    return np.select([count == 1, count == 2], [True, np.abs(across - down) >= READING_MARGIN], apart)


def assemble(
    drawing: Drawing,
    layout: Layout,
    said: Statement,
    kinds: list[str],
    mark: np.ndarray,
    seed: int,
    parameters: dict,
    verb: Sequence[str] = (),
) -> xr.Dataset:
    """Draw the scenes of these statements and gather them with their truth, as a dataset of the ``inputs`` schema."""
    world, n = drawing.made, len(kinds)
    texts, owners = words(said, world, verb, drawing.template)
    length = max(map(len, texts))
    seeds = np.random.SeedSequence((seed, PIXELS)).generate_state(n).astype(np.int64)
    style = drawing.draw_styles(stream(seed, STYLE), n)
    slots = np.arange(layout.exists.shape[1])
    values = {
        "caption": [sentence(text) for text in texts],
        "token_text": [text + [""] * (length - len(text)) for text in texts],
        "token_object": [who + [-1] * (length - len(who)) for who in owners],
        "object_named": said.names(layout),
        "relation": [RELATIONS[r] if r >= 0 else "" for r in said.relation],
        "caption_kind": kinds,
        "caption_true": np.ones(n, bool),
        **drawn(layout, world, seeds, style, drawing.pixels, mark),
    }
    data = as_inputs(values, sample=np.arange(n), object=slots)
    shown = {"world": world.name, "size": drawing.pixels, "styles": [world.styles[i] for i in drawing.style_indices]}
    shown |= {"smallest": drawing.smallest, "template": drawing.template}
    return annotate(data, seed=seed, parameters={**parameters, **shown})


def groups(layout: Layout) -> np.ndarray:
    """For each object (n, K) the first of those that are alike."""
    kind = layout.noun * (len(COLOURS) + 1) + layout.colour
    kind = np.where(layout.exists, kind, -2 - np.arange(kind.shape[1]))
    return (kind[:, :, None] == kind[:, None, :]).argmax(2)


def drawn(
    layout: Layout, world: World, seeds: np.ndarray, style: np.ndarray, size: int, mark: np.ndarray
) -> dict[str, object]:
    """Pictures of ``size`` pixels and all that is true of them whatever is said, as variables of the ``inputs`` schema."""
    at_once = max(1, PIXELS_AT_ONCE // size**2)
    parts = [slice(i, i + at_once) for i in range(0, len(seeds), at_once)]
    pictures = [world.render(layout.rows(part), seeds[part], style[part], size, mark[part]) for part in parts]
    image, mask, background = (np.concatenate(column) for column in zip(*pictures, strict=True))
    there, pixels = layout.exists, size / FRAME
    size_word, colour_word = (np.array(["", *(f"{word} " for word in known)]) for known in (world.sizes, COLOURS))
    look = np.char.add(size_word[layout.size + 1], colour_word[layout.colour + 1])
    name = np.char.add(look, np.array(world.nouns)[layout.noun])
    return {
        "image": image,
        "object_mask": mask,
        "object_name": np.where(there, name, ""),
        "object_group": np.where(there, groups(layout), -1),
        "object_x": np.where(there, layout.x * pixels, np.nan),
        "object_y": np.where(there, layout.y * pixels, np.nan),
        "object_radius": np.where(there, layout.radius * pixels, np.nan),
        "background": background,
        "mark": mark,
        "world": [world.name] * len(seeds),
        "style": np.array(world.styles)[style],
        "scene_seed": seeds,
    }
