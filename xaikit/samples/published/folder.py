"""Any folder of images with a table of captions."""

from pathlib import Path

import pandas as pd

from ..source import Pictures
from ..tables import LayoutError, check_lines, choose_split, column, layout, picture_in, read_rows, whole_numbers

HOW = (
    "write a table with the columns image and caption, and maybe class, foil, pair, box and object, an image's name relative to the"
    " folder"
)


@layout(HOW)
def folder(folder: Path, split: str | None = None) -> Pictures:
    """A sample a row of ``captions.csv``, labelled by the image's name, and for further captions of it "NAME-1", "NAME-2".

    folder : holds the table (separated by commas or tabs) with a header: image (or file or filepath), caption (or title), and
        maybe class (a name), foil (a caption that is false of the image), pair (a whole number), and box, of the object that the
        caption names, "left top width height" in pixels of the file, with its name in object.

    The classes are all that the table names, in the order of the alphabet, each with the prompt "a photo of a NAME.".
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
    classes = sorted({*rows["class"]}) if "class" in rows else []
    if "class" in rows:
        table["class_index"] = rows["class"].map({name: place for place, name in enumerate(classes)})
    if "foil" in rows:
        table["foil"] = rows.foil
    if "box" in rows:
        check_lines(path, rows.box, r"\s*[\d.]+(\s+[\d.]+){3}\s*", ", but 'left top width height' in pixels is needed")
        table["box"] = rows.box.map(lambda text: tuple(map(float, text.split())))
        table["object_name"] = rows.object if "object" in rows else ""
    if "pair" in rows:
        table["pair"] = whole_numbers(path, rows.pair)
    return Pictures.of("folder", table, picture_in(folder), classes=classes)
