"""What tests of planted scenes share: both worlds, how properties are tried, and how masks of different sizes compare."""

import numpy as np
import pytest
from hypothesis import Phase, settings, strategies as st
from PIL import Image

from xaikit.samples.captions import name_parts

WORLDS = {"shapes": 64, "things": 96}  # and the pixels a side that they have unless asked
in_both_worlds = pytest.mark.parametrize("world", WORLDS)
worlds, seeds = st.sampled_from([*WORLDS]), st.integers(0, 2**31)


def tried(times):
    """Settings of a property: the same examples each time, none sought that is simpler, nothing written beside the tests."""
    return settings(max_examples=times, derandomize=True, database=None, deadline=None, phases=[Phase.generate])


def there(scenes):
    """(sample, object) of each object."""
    return list(zip(*np.nonzero(scenes.object_name.values != ""), strict=True))


def fits(phrase, name):
    """Whether a phrase without article, of a noun and perhaps size and colour, is true of an object's name."""
    return bool(name) and all(said in ("", own) for said, own in zip(name_parts(phrase), name_parts(name), strict=True))


def bare(phrase):
    """A noun phrase without its article."""
    first, _, rest = phrase.partition(" ")
    return rest if first in ("a", "an") else phrase


def agreement(mask, other):
    """IoU of an object's mask (y, x) with one drawn larger, reduced by area."""
    reduced = Image.fromarray(other.astype(np.float32)).resize(mask.shape, Image.Resampling.BOX)
    reduced = np.asarray(reduced) > 0.5
    return (mask & reduced).sum() / max((mask | reduced).sum(), 1)
