"""Planted scenes drawn again with one object taken away, exchanged or moved, or without the corner mark: the rest stays as it
was, to the last pixel.

What a model's answer changes by is its own use of that object: no grey box, no blur; the picture is drawn as all others are.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from ..files.checks import check_choices, check_number, check_whole
from ..files.schema import SCHEMA
from ..files.store import annotate, inputs_digest
from .assembly import drawn
from .captions import name_objects, name_parts, noun_phrases, world_of
from .worlds.layout import COLOURS, FRAME, RELATIONS, Layout, World


def without(scenes: xr.Dataset, object: int | Sequence[int]) -> xr.Dataset:
    """The same scenes drawn again without an object.

    scenes : planted scenes, as the functions that draw them give, or some of them. object : its number, one for all
    scenes or one a scene.

    Returns a dataset of the ``inputs`` schema: image and masks drawn again, captions as they were, with ``token_object``,
    ``object_named`` and ``caption_true`` as they are now; what was of the picture before (``similarity``, ``foil`` and its
    ``pair``) is left out. Raises ValueError for scenes that aren't planted, and for an
    object that a scene lacks.

    Examples
    --------
    >>> pair = xk.draw_scenes(1, objects=(2, 2), captions="relation", world="things")
    >>> pair.caption.item(), xk.without(pair, 1).object_name.values[0].tolist()
    ('a bear left of a television', ['bear', ''])
    """
    return _again(scenes, *layout_without(scenes, object))


def layout_without(scenes: xr.Dataset, object: int | Sequence[int]) -> tuple[Layout, World]:
    """The layout of ``without``."""
    layout, world = layout_of(scenes)
    rows, slots = _chosen(scenes, object)
    exists = layout.exists.copy()
    exists[rows, slots] = False
    return replace(layout, exists=exists), world


def replaced(scenes: xr.Dataset, object: int | Sequence[int], by: str | Sequence[str]) -> xr.Dataset:
    """The same scenes with another object in one's place, as large and in the same light.

    by : its noun, or colour and noun ("red car"), one for all scenes or one a scene; a shape without a colour keeps the
    colour that was there. Else as ``without``; raises ValueError for an unknown noun or colour, too.

    Examples
    --------
    >>> pair = xk.draw_scenes(1, objects=(2, 2), captions="relation", world="things")
    >>> xk.replaced(pair, 0, "red car").object_name.values[0].tolist()
    ['red car', 'television']
    """
    return _again(scenes, *layout_replaced(scenes, object, by))


def layout_replaced(scenes: xr.Dataset, object: int | Sequence[int], by: str | Sequence[str]) -> tuple[Layout, World]:
    """The layout of ``replaced``."""
    layout, world = layout_of(scenes)
    rows, slots = _chosen(scenes, object)
    names = [by] * len(rows) if isinstance(by, str) else list(by) if isinstance(by, Sequence | np.ndarray) else []
    if len(names) != len(rows):
        raise ValueError(f"by={by!r}: a name, or one for each of the {len(rows)} scenes, is needed")
    colour, noun = layout.colour.copy(), layout.noun.copy()
    for row, slot, name in zip(rows, slots, names, strict=True):
        size, said, kind = name_parts(str(name))
        if size:
            raise ValueError(f"by={name!r}: the size stays as it is, give a noun, or a colour and a noun")
        first, _, rest = kind.partition(" ")
        if kind not in world.nouns and rest in world.nouns:
            check_choices(colour=(first, COLOURS))
        check_choices(by=(kind, world.nouns))
        noun[row, slot] = world.nouns.index(kind)
        if said and not world.coloured[noun[row, slot]]:
            raise ValueError(f"by={name!r}: a {kind} takes no other colour than its own")
        keeps = colour[row, slot] if world.sizes else -1  # a thing has its own
        colour[row, slot] = COLOURS.index(said) if said else keeps
    return replace(layout, colour=colour, noun=noun), world


def moved(
    scenes: xr.Dataset, object: int | Sequence[int], x: float | Sequence[float], y: float | Sequence[float]
) -> xr.Dataset:
    """The same scenes with an object's centre elsewhere.

    x, y : pixels from the left and from the top, one for all scenes or one a scene. Else as ``without``; raises ValueError
    for a place where the object would leave the picture, too.

    Examples
    --------
    >>> pair = xk.draw_scenes(1, objects=(2, 2), captions="relation", world="things")
    >>> pair.caption.item(), xk.moved(pair, 0, 76, 40).caption_true.item()
    ('a bear left of a television', False)
    """
    layout, world = layout_of(scenes)
    rows, slots = _chosen(scenes, object)
    side = scenes.sizes["x"]
    places = {}
    for name, values in (("x", x), ("y", y)):
        values = np.asarray(values)
        if values.dtype.kind not in "iuf" or values.shape not in ((), (len(rows),)):
            raise ValueError(
                f"{name}={values.tolist()!r}: pixels, or as many for each of the {len(rows)} scenes, are needed"
            )
        values = np.broadcast_to(values, len(rows))
        radius = layout.radius[rows, slots] * side / FRAME
        for value, room in zip(values, radius, strict=True):
            check_number(
                float(room),
                float(side - room),
                f"place of an object {2 * room:.1f} pixels wide",
                **{name: float(value)},
            )
        places[name] = getattr(layout, name).copy()
        places[name][rows, slots] = values * FRAME / side
    return _again(scenes, replace(layout, **places), world)


def unmarked(scenes: xr.Dataset) -> xr.Dataset:
    """The same scenes without the corner mark; those that have none stay as they are.

    scenes, what is returned and what is raised as in ``without``.

    Examples
    --------
    >>> marked = xk.draw_suite("shortcut", 2)
    >>> marked.mark.values.tolist(), xk.samples.unmarked(marked).mark.values.tolist()
    ([True, True], [False, False])
    """
    layout, world = layout_of(scenes)
    return _again(scenes.assign(mark=scenes.mark & False), layout, world)


def newcomers(scenes: xr.Dataset, draws: int = 1, seed: int = 0) -> np.ndarray:
    """What could stand in each object's place and isn't in the scene, drawn at random: names for ``replaced``.

    Another noun, and if the object has a colour of ``COLOURS`` another one of these; so of shapes colour and shape both
    change. draws : different names an object. seed : with each scene's own seed it decides, so that a scene gets the same
    names whatever scenes stand beside it.

    Returns names (sample, object, draws), "" where a slot holds no object. Raises ValueError for scenes that aren't planted,
    and for more draws than there are such things.

    Examples
    --------
    >>> scenes.object_name.values[0].tolist(), xk.samples.newcomers(scenes, 2)[0, 0].tolist()
    (['small orange triangle', 'large orange triangle', 'large pink cross'], ['blue diamond', 'red square'])
    """
    check_whole(1, draws=draws)
    check_whole(0, seed=seed)
    layout, world = layout_of(scenes)
    colours, nouns = np.arange(-1, len(COLOURS))[:, None], np.arange(len(world.nouns))
    paintable = (colours < 0) | world.coloured
    found = np.full((*layout.noun.shape, draws), "", dtype=object)
    for row, scene_seed in enumerate(scenes.scene_seed.values):
        noun, colour, there = (getattr(layout, name)[row, :, None, None] for name in ("noun", "colour", "exists"))
        taken = (there & (noun == nouns) & ((colour < 0) | (colours < 0) | (colour == colours))).any(0)
        another = np.where(colour < 0, colours < 0, (colours >= 0) & (colours != colour))
        free = (paintable & ~taken & another & (noun != nouns)).reshape(len(noun), -1)
        key = np.random.default_rng((seed, int(scene_seed))).random(free.shape)
        chosen = np.where(free, key, np.inf).argsort(1)[:, :draws]
        for slot in np.flatnonzero(layout.exists[row]):
            if free[slot].sum() < draws:
                raise ValueError(
                    f"draws={draws}: only {free[slot].sum()} other things could stand in the place of object {slot} of scene"
                    f" {scenes.sample.values[row]}"
                )
            said, kind = np.divmod(chosen[slot], len(nouns))
            found[row, slot] = [
                f"{('', *COLOURS)[c]} {world.nouns[k]}".strip() for c, k in zip(said, kind, strict=True)
            ]
    return found.astype(str)


def layout_of(scenes: xr.Dataset) -> tuple[Layout, World]:
    """Where the objects of planted scenes stand and what they are, and their world. Raises ValueError for other scenes."""
    needed = {
        "scene_seed", "style", "object_name", "object_x", "object_y", "object_radius", "world", "mark", "relation",
        "token_text", "token_object", "image",
    }  # fmt: skip
    if missing := needed - set(scenes):
        raise ValueError(
            f"only planted scenes can be drawn again, and these lack {', '.join(sorted(missing))}: draw them with"
            " draw_scenes, draw_pairs, draw_suite or draw_descriptions"
        )
    if "sample" not in scenes.dims:
        raise ValueError("a single scene without the dimension 'sample': take it with scenes.isel(sample=[0])")
    world = world_of(scenes)
    names = scenes.object_name.fillna("").transpose("sample", "object").values.astype(str)
    parts = [[name_parts(name) if name else ("", "", "") for name in row] for row in names]
    known = (("", *world.sizes), ("", *COLOURS), ("", *world.nouns))
    size, colour, noun = (
        np.array([[names.index(part[place]) - 1 for part in row] for row in parts]) for place, names in enumerate(known)
    )
    unit = FRAME / scenes.sizes["x"]
    x, y, radius = (
        np.nan_to_num(scenes[name].transpose("sample", "object").values * unit, nan=-1e3)
        for name in ("object_x", "object_y", "object_radius")
    )
    return Layout(noun, colour, size, x, y, radius, names != ""), world


def _chosen(scenes: xr.Dataset, object: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and slots of the objects. Raises ValueError for one that a scene lacks."""
    n, names = scenes.sizes["sample"], scenes.object_name.fillna("").transpose("sample", "object").values
    slots = np.asarray(object)
    if slots.dtype.kind not in "iu" or slots.shape not in ((), (n,)):
        raise ValueError(f"object={object!r}: a number, or one for each of the {n} scenes, is needed")
    rows, slots = np.arange(n), np.broadcast_to(slots, n)
    for row, slot in zip(rows, slots, strict=True):
        if not 0 <= slot < names.shape[1] or not names[row, slot]:
            there = ", ".join(f"{place} ({name})" for place, name in enumerate(names[row]) if name)
            raise ValueError(
                f"object={slot}: scene {scenes.sample.values[row]} has no such object, it has {there or 'none'}"
            )
    return rows, slots


def drawn_as(scenes: xr.Dataset, layout: Layout, world: World) -> dict[str, object]:
    """What these layouts look like in the style, at the size and before the ground of the scenes, as ``assembly.drawn``."""
    styles = np.array([world.styles.index(str(name)) for name in scenes["style"].values])
    return drawn(layout, world, scenes.scene_seed.values, styles, scenes.sizes["x"], scenes.mark.values)


def _again(scenes: xr.Dataset, layout: Layout, world: World) -> xr.Dataset:
    changed = drawn_as(scenes, layout, world)
    out = scenes.assign({name: (SCHEMA["inputs"][name].dims, values) for name, values in changed.items()})
    owner, named, true = _said(out, world)
    out = out.assign(
        token_object=(("sample", "token"), owner),
        object_named=(("sample", "object"), named),
        caption_true=("sample", true),
    )
    out = out.drop_vars(["similarity", "foil", "foil_image", "pair"], errors="ignore")
    return annotate(out, "inputs", inputs_digest=inputs_digest(out))


def check_drawn(scenes: xr.Dataset) -> Layout:
    """The scenes' layout. Raises ValueError for scenes that aren't planted, or whose pictures aren't as they were drawn, so that
    what is drawn again would differ by more than an object."""
    layout, world = layout_of(scenes)
    image = drawn_as(scenes, layout, world)["image"]
    differs = (image != scenes.image.transpose("sample", "y", "x", "rgb").values).any((1, 2, 3))
    if differs.any():
        raise ValueError(
            f"the picture of scene {scenes.sample.values[differs.argmax()]} isn't as it was drawn, so a scene drawn again would"
            " differ by more than an object: give the scenes unaltered"
        )
    return layout


def _said(scenes: xr.Dataset, world: World) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which object each word (n, tokens) names, which objects (n, K) the captions name, and which captions (n,) are true."""
    names = scenes.object_name.values.astype(str)
    owner = np.maximum(name_objects(scenes.token_text.values, scenes).token_object.values, -1)
    named, true = np.zeros(names.shape, bool), np.ones(len(names), bool)
    for row, text in enumerate(np.char.lower(scenes.token_text.values.astype(str))):
        phrases = noun_phrases(text.tolist(), world)
        meant = np.array([[bool(name) and phrase.names(name) for name in names[row]] for phrase in phrases], bool)
        meant = meant.reshape(len(phrases), names.shape[1])
        numbers = [phrase.number for phrase in phrases]
        counted = np.array([phrase.place.start for phrase in phrases if phrase.number > 1], int)
        owner[row, counted - 1] = owner[row, counted]  # a number names what it counts
        colours = np.isin(text, COLOURS)
        if not phrases and colours.any():  # a colour is all that is asked for
            meant = np.array([[name_parts(name)[1] in text[colours] for name in names[row]]])
            owner[row, colours] = meant[0].argmax() if meant.any() else -1
            numbers = [1]
        named[row] = meant.any(0)
        there = zip(numbers, meant.sum(1), strict=True)
        true[row] = all(found > 0 if number == 1 else found == number for number, found in there)
        if true[row] and scenes.relation.values[row] and len(phrases) == 2:
            true[row] = _related(scenes.isel(sample=row), meant, str(scenes.relation.values[row]))
    return owner, named, true


def _related(scene: xr.Dataset, meant: np.ndarray, relation: str) -> bool:
    """Whether some object that the first phrase means stands so to one that the second means."""
    index = RELATIONS.index(relation)
    place = (scene.object_x if index < 2 else scene.object_y).values * (1 if index % 2 == 0 else -1)
    before = place[:, None] < place
    return bool((before & meant[0][:, None] & meant[1]).any())
