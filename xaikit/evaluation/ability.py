"""Whether a model can do what its explanations are asked about: a scene's caption must beat captions that are false of it."""

import re
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from ..clip.model import Clip
from ..clip.score import embed_images, embed_texts
from ..files.schema import SCHEMA
from ..measures.intervals import share_interval
from ..samples.captions import NUMBERS, Phrase, name_parts, noun_phrase, noun_phrases, sentence, world_of
from ..samples.interventions import newcomers
from ..samples.worlds.layout import COLOURS, World


def foils(scenes: xr.Dataset) -> list[list[str]]:
    """Captions that are false of each scene: its ``foil`` where the scenes have one, else, of planted scenes, the caption with
    one of the objects that it names exchanged for something that isn't there, a foil for each; of a single word, a noun or a
    colour, another such word that nothing in the scene has.

    Raises ValueError for other scenes.

    Examples
    --------
    >>> pair = xk.draw_scenes(1, objects=(2, 2), captions="relation", world="things")
    >>> pair.caption.item(), foils(pair)[0]
    ('a bear left of a television', ['a penguin left of a television', 'a bear left of a sheep'])
    >>> word = xk.draw_suite("word", 1)
    >>> word.caption.item(), foils(word)[0]
    ('yellow', ['green'])
    """
    if "foil" in scenes:
        return [[str(foil)] for foil in scenes.foil.values]
    world, found = world_of(scenes), []
    drawn = scenes.caption.values, scenes.object_name.values, newcomers(scenes)[..., 0], scenes.scene_seed.values
    for caption, names, others, seed in zip(*drawn, strict=True):
        words = re.findall(r"\w+|[^\w\s]+", str(caption).lower())
        phrases = noun_phrases(words, world)
        place, like_it = _alone(words, phrases, world)
        if like_it:
            there = {part for name in names for part in name_parts(name)}
            other = np.random.default_rng(int(seed)).permutation([word for word in like_it if word not in there])[:1]
            found.append([sentence([*words[: place.start], *each.split(), *words[place.stop :]]) for each in other])
            continue
        pairs = [(phrase, *each) for phrase in phrases for each in zip(names, others, strict=True)]
        found.append([_exchanged(words, phrase, new, world) for phrase, old, new in pairs if phrase.names(old)])
    return found


def _alone(words: list[str], phrases: list[Phrase], world: World) -> tuple[slice, Sequence[str]]:
    """Where the noun or colour stands that is all that a caption says, and what could stand there; nothing for another."""
    colours = [index for index, word in enumerate(words) if word in COLOURS]
    if len(phrases) == 0 and len(colours) == 1:
        return slice(colours[0], colours[0] + 1), COLOURS
    if len(phrases) == 1 and not colours:
        phrase = phrases[0]
        if not phrase.size and not {*words[: phrase.place.start][-1:]} & {"a", "an", *NUMBERS}:
            return phrase.place, world.nouns
    return slice(0), ()


def _exchanged(words: list[str], phrase: Phrase, new: str, world: World) -> str:
    """The caption with another object, by its name, in the place of a noun phrase."""
    _, colour, noun = name_parts(new)
    known = (noun, world.nouns), (colour, COLOURS), (phrase.size, world.sizes)
    first, said = noun_phrase(world, *(names.index(name) if name else -1 for name, names in known), phrase.number)
    start = phrase.place.start - (words[phrase.place.start - 1] in ("a", "an", *NUMBERS))
    return sentence([*words[:start], *first, *said, *words[phrase.place.stop :]])


def recognised(clip: Clip, scenes: xr.Dataset, batch_size: int = 128) -> xr.DataArray:
    """Whether each scene (sample) is nearer to its caption than to each of its ``foils``; of a model that can't tell them apart
    an explanation says nothing. The attribute ``chance`` is how many would be by chance.

    Raises ValueError as ``foils``, and for a scene without one.

    Examples
    --------
    >>> recognised(xk.load_clip("tiny-clip"), xk.draw_scenes(4)).values.tolist()
    [True, True, True, True]
    """
    texts = [[str(caption), *others] for caption, others in zip(scenes.caption.values, foils(scenes), strict=True)]
    counts = np.array([len(each) for each in texts])
    if (counts < 2).any():
        lacking = int((counts < 2).argmax())
        raise ValueError(f"scene {lacking} ({texts[lacking][0]!r}) has no foil: its caption must name an object of it")
    images = embed_images(clip, scenes.image, batch_size).repeat_interleave(torch.from_numpy(counts), 0)
    cosine = (images * embed_texts(clip, [text for each in texts for text in each])).sum(-1).cpu().numpy()
    parts = np.split(cosine, np.cumsum(counts)[:-1])
    beats = np.array([(part[0] > part[1:]).all() for part in parts])
    about = {"long_name": SCHEMA["evaluation"]["recognised"].long_name, "chance": float((1 / counts).mean())}
    return xr.DataArray(beats, {"sample": scenes.sample.values}, ("sample",), attrs=about)


def of_recognised(scores: xr.Dataset) -> xr.Dataset:
    """The scores (sample, explainer) of the scenes that are ``recognised``, NaN for the others, so that a ranking is of what the
    model can do; of none, where the share of the recognised isn't shown to be above its chance. Without that variable all stay.

    Examples
    --------
    >>> scores = xr.Dataset({"energy": (("sample", "explainer"), np.ones((2, 1)))})
    >>> known = ("sample", [True, False], {"chance": 0.5})
    >>> of_recognised(scores.assign(recognised=known)).energy.values[:, 0].tolist()  # one of two: that may be chance
    [nan, nan]
    """
    if "recognised" not in scores:
        return scores
    known = scores.recognised
    enough = share_interval(known.values.astype(float))[1] > known.attrs["chance"]
    keep = known & bool(enough)
    each = {name: one.where(keep) for name, one in scores.data_vars.items() if one.dims == ("sample", "explainer")}
    return scores.assign(each | {"recognised": keep.assign_attrs(known.attrs)})
