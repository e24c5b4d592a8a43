"""Any folder of images with a table of captions."""

from pathlib import Path

import pandas as pd

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
    table["image_id"] = pd.factorize(image)[0]
    named = cleaned(rows["class"]) if "class" in rows else None
    classes = [] if named is None else sorted({*named} - {""})
    if named is not None:
        table["class_index"] = named.map({name: place for place, name in enumerate(["", *classes], start=-1)})
        table["problem"] = (named == "").map({True: "the class is empty: its name is needed", False: ""})
    if "foil" in rows:
        table["foil"] = rows.foil
    if "box" in rows and "mask" in rows:
        raise LayoutError(f"{path} has both columns box and mask: one of them says where the object is")
    for name, needed in PLACES.items():
        if name not in rows:
            continue
        given = rows[name].str.strip() != ""
        if name == "box":
            check_lines(path, rows.box[given], BOX, f", but {needed} is needed")
        table[name] = rows[name] if name == "mask" else rows.box.map(lambda text: tuple(map(float, text.split())))
        lacking = given.map({False: f"the {name} is empty: {needed} is needed", True: ""})
        table["problem"] = lacking if "problem" not in table else table.problem.where(table.problem != "", lacking)
        table["object_name"] = rows.object if "object" in rows else ""
    if "pair" in rows:
        table["pair"] = whole_numbers(path, rows.pair)
        table = paired(table)
    return Pictures.of("folder", table, PicturesIn(folder), classes=classes)


def paired(table: pd.DataFrame) -> pd.DataFrame:
    """Pairs one after another in the order of their first samples, so that none is cut between blocks, and behind them what is
    no pair, which is a bad sample."""
    pair = table.pair
    count, first = (
        pair.map(pair.value_counts()),
        pair.map({number: place for place, number in enumerate(pair.unique())}),
    )
    single = "of pair " + pair.astype(str) + " there are " + count.astype(str) + " samples: two make a pair"
    problem = table["problem"] if "problem" in table else pd.Series("", table.index)
    odd = (count != 2) & (pair >= 0)
    table = table.assign(problem=problem.where(~odd, single))
    order = pd.DataFrame({"odd": odd | (pair < 0), "first": first}).sort_values(["odd", "first"], kind="stable").index
    return table.loc[order].reset_index(drop=True)
