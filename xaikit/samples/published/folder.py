"""Any folder of images with a table of captions; and, for a first look, a few photographs with captions and boxes of our own,
which scikit-image and scikit-learn install."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ...files.images import decode
from ..source import Pictures, cleaned
from ..tables import LayoutError, PicturesIn, check_lines, choose_split, column, layout, read_rows, whole_numbers

BOX = r"\s*(\d+\.?\d*|\.\d+)(\s+(\d+\.?\d*|\.\d+)){3}\s*"
PLACES = {"box": "'left top width height' in pixels", "mask": "the name of a picture"}  # of an object, what each is
HOW = (
    "write a table with the columns image and caption, and maybe class, foil, pair, object and its box or mask, names of files"
    " relative to the folder"
)


@layout(HOW)
def folder(folder: Path, split: str | None = None) -> Pictures:
    """A sample a row of ``captions.csv``, labelled by the image's name, and for further captions of it "NAME-1", "NAME-2".

    folder : holds the table (separated by commas or tabs) with a header: image (or file or filepath), caption (or title), and
        maybe class (a name), foil (a caption that is false of the image), pair (a whole number), and where the object that the
        caption names lies, with its name in object: box, "left top width height" in pixels of the file, or mask, the name of
        a picture of the same size that is 0 beside the object and one other value on it.

    The classes are all that the table names, in the order of the alphabet, each with the prompt "a photo of a NAME."; blanks
    around a name don't count, and a row without one is a bad sample. Samples stay in the table's order, but for those of a
    pair, which come one after the other; a pair of one, or of three, is none, and a negative number stands for none.
    """
    choose_split("folder", folder, (), split)
    path = folder / "captions.csv"
    if not path.is_file():
        raise LayoutError(f"there is no captions.csv in {folder}: {HOW}")
    rows = read_rows(path)
    image = column(path, rows, "image", "file", "filepath")
    again = image.groupby(image).cumcount()
    label = image.where(again == 0, image + "-" + again.astype(str))
    table = pd.DataFrame({"label": label, "image": image, "caption": column(path, rows, "caption", "title")})
    table["image_id"], table["problem"], classes = pd.factorize(image)[0], "", []
    if "class" in rows:
        named = cleaned(rows["class"])
        classes = sorted({*named} - {""})
        table["class_index"] = pd.Index(classes, dtype=object).get_indexer(named)  # -1 for a row without one
        table["problem"] = np.where(named == "", "the class is empty: its name is needed", "")
    if "foil" in rows:
        table["foil"] = rows.foil
    if "box" in rows and "mask" in rows:
        raise LayoutError(f"{path} has both columns box and mask: one of them says where the object is")
    for name in (name for name in PLACES if name in rows):
        given, needed = rows[name].str.strip() != "", PLACES[name]
        if name == "box":
            check_lines(path, rows.box[given], BOX, f", but {needed} is needed")
        table[name] = rows[name] if name == "mask" else rows.box.map(lambda text: tuple(map(float, text.split())))
        lacking = ~given & (table.problem == "")
        table["problem"] = table.problem.mask(lacking, f"the {name} is empty: {needed} is needed")
        table["object_name"] = rows.object if "object" in rows else ""
    if "pair" in rows:
        table["pair"] = whole_numbers(path, rows.pair)
        table = paired(table)
    return Pictures.of("folder", table, PicturesIn(folder), classes=classes)


def paired(table: pd.DataFrame) -> pd.DataFrame:
    """Pairs one after another in the order of their first samples, so that none is cut between blocks, and behind them what is
    no pair, which is a bad sample."""
    pair = table.pair
    count = pair.groupby(pair).transform("size")
    single = "of pair " + pair.astype(str) + " there are " + count.astype(str) + " samples: two make a pair"
    odd = (count != 2) & (pair >= 0)
    table = table.assign(problem=table.problem.mask(odd, single))
    order = np.lexsort((pd.factorize(pair)[0], odd | (pair < 0)))
    return table.iloc[order].reset_index(drop=True)


# Picture, caption, the object that it names first, and its box (left, top, width, height) in pixels of the file.
PHOTOS = (
    ("skimage/data/motorcycle_left.png", "a red motorcycle in a garage", "motorcycle", (100, 80, 580, 370)),
    ("skimage/data/coffee.png", "a cup of coffee on a red saucer", "cup", (172, 15, 235, 225)),
    ("sklearn/datasets/images/flower.jpg", "an orange flower in front of green leaves", "flower", (165, 82, 280, 278)),
    ("skimage/data/rocket.jpg", "a white rocket before its start at night", "rocket", (303, 125, 36, 290)),
    ("sklearn/datasets/images/china.jpg", "a pagoda above trees at a lake", "pagoda", (60, 25, 310, 375)),
    ("skimage/data/astronaut.png", "a woman in an orange space suit", "woman", (22, 12, 340, 500)),
    ("skimage/data/camera.png", "a man with a camera on a tripod", "man", (0, 62, 330, 450)),
    ("skimage/data/chelsea.png", "a cat with green eyes", "cat", (30, 0, 380, 300)),
)


def photos() -> Pictures:
    """The photographs as a source, whose ``object_mask`` is the box of the object that each caption names.

    Examples
    --------
    >>> source = xk.open_source("photos", 2)
    >>> source.inputs(size=64).caption.values.tolist()
    ['a red motorcycle in a garage', 'a cup of coffee on a red saucer']
    """
    table = pd.DataFrame(PHOTOS, columns=["image", "caption", "object_name", "box"])
    table["label"] = table.image.map(lambda name: Path(name).stem)
    return Pictures.of("photos", table, _read)


def _read(name: str) -> Image.Image:
    package, _, inner = str(name).partition("/")
    return decode(Path(find_spec(package).submodule_search_locations[0]) / inner, f"the picture {name}")
