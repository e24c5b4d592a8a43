"""SVO-Probes: a sentence, an image of which it is true, and one that differs in its subject, verb or object.

Hendricks and Nematzadeh, Probing Image-Language Transformers for Verb Understanding, 2021.
"""

from pathlib import Path

import pandas as pd

from ..pictures import Pictures
from ..tables import LayoutError, by_stem, column, no_split, picture_in, read_rows, whole_numbers

HOW = "get it from google-deepmind/svo_probes at github.com, and save each image by its id, such as images/12.jpg"
NEGATIVE = {"subject": "subj_neg", "verb": "verb_neg", "object": "obj_neg"}


def open_svo_probes(folder: Path, split: str | None = None) -> Pictures:
    """A sample a row of ``svo_probes.csv``, labelled by its number from 0: the positive image with the sentence, the negative
    one as ``foil_image``, and as ``attributes`` which of subject, verb and object it differs in.

    folder : holds the table and a folder ``images`` with a file for each image's id, of whatever kind.
    """
    no_split("svo-probes", split)
    path = folder / "svo_probes.csv"
    if not path.is_file() or not (folder / "images").is_dir():
        missing = "no folder images" if path.is_file() else "no svo_probes.csv"
        raise LayoutError(f"there is {missing} in {folder}: {HOW}")
    rows, listed = read_rows(path), by_stem(folder / "images")
    ids = {side: whole_numbers(path, column(path, rows, f"{side}_image_id")) for side in ("pos", "neg")}
    names = {
        side: "images/" + values.astype(str).map(lambda name: listed.get(name, name)) for side, values in ids.items()
    }
    differs = pd.Series("", index=rows.index, dtype=object)
    for part, name in NEGATIVE.items():
        differs = differs.where(~_truth(path, column(path, rows, name)), differs + f", {part}")
    table = pd.DataFrame(
        {
            "image": names["pos"],
            "caption": column(path, rows, "sentence"),
            "foil_image": names["neg"],
            "image_id": ids["pos"],
            "attributes": differs.str.removeprefix(", "),
        }
    )
    labels = pd.Series(range(len(rows))).astype(str).to_numpy(object)
    return Pictures("svo-probes", labels, table=table, read=picture_in(folder, ("images",)))


def _truth(path: Path, values: pd.Series) -> pd.Series:
    lower = values.str.strip().str.lower()
    wrong = ~lower.isin(["true", "false"]).to_numpy()
    if wrong.any():
        line = values.index[wrong][0]
        raise LayoutError(f"{path}: line {line} has {values.name}={values[line]!r}, but True or False is needed")
    return lower == "true"
