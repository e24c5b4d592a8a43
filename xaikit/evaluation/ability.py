"""Whether a model can do what its explanations are asked about: a scene's caption must beat captions that are false of it."""

import re

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
    one of the objects that it names exchanged for something that isn't there, a foil for each.

    Raises ValueError for other scenes.

    Examples
    --------
    >>> pair = xk.draw_scenes(1, objects=(2, 2), captions="relation", world="things")
    >>> pair.caption.item(), foils(pair)[0]
    ('a bear left of a television', ['a penguin left of a television', 'a bear left of a sheep'])
    """
    if "foil" in scenes:
        return [[str(foil)] for foil in scenes.foil.values]
    world, found = world_of(scenes), []
    for caption, *objects in zip(
        scenes.caption.values, scenes.object_name.values, newcomers(scenes)[..., 0], strict=True
    ):
        words = re.findall(r"\w+|[^\w\s]+", str(caption).lower())
        pairs = [(phrase, *each) for phrase in noun_phrases(words, world) for each in zip(*objects, strict=True)]
        found.append([_exchanged(words, phrase, new, world) for phrase, old, new in pairs if phrase.names(old)])
    return found


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
    model can do; of none, where the share of the recognised isn't surely above its chance. Without that variable all stay.

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
