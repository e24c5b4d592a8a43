"""Images with foils: Winoground's pairs of images and captions of the same words, and SVO-Probes' pairs of images.

Thrush et al., Winoground: Probing Vision and Language Models for Visio-Linguistic Compositionality, 2022.
Hendricks and Nematzadeh, Probing Image-Language Transformers for Verb Understanding, 2021.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ...files.checks import one_line
from ...files.images import decode
from ..source import Pictures
from ..tables import (
    LayoutError,
    PicturesIn,
    by_stem,
    check_lines,
    check_unique,
    choose_split,
    column,
    layout,
    read_json_lines,
    read_rows,
    records,
    stamp_of,
    whole_numbers,
)

HOW = "get it from the dataset facebook/winoground at huggingface.co, whose terms have to be accepted first"
TEXTS = {"id": int, "caption_0": str, "caption_1": str}
SIDES = ("image_0", "image_1")

HOW_PROBES = (
    "get it from google-deepmind/svo_probes at github.com, and save each image by its id, such as images/12.jpg"
)
NEGATIVE = {"subject": "subj_neg", "verb": "verb_neg", "object": "obj_neg"}


@layout(HOW)
def winoground(folder: Path, split: str | None = None) -> Pictures:
    """Two samples an example, "ID-0" and "ID-1": each image with its caption, the other caption being its foil.

    folder : holds ``test-*.parquet``, there or in ``data``, with the images in it, or ``examples.jsonl``, there or in
        ``data``, with a folder ``images`` beside it.
    split : "test", the only one.
    """
    choose_split("winoground", folder, ("test",), split)
    for at in (folder, folder / "data"):
        tables = sorted(at.glob("[!.]*.parquet")) if at.is_dir() else []
        if tables or (at / "examples.jsonl").is_file():
            examples, entries, read = _of_parquet(at, tables) if tables else _of_lines(at, at / "examples.jsonl")
            break
    else:
        raise LayoutError(f"there is neither a *.parquet file nor examples.jsonl in {folder} or its folder data: {HOW}")
    texts = examples.caption_0, examples.caption_1
    sides = [
        pd.DataFrame(
            {
                "label": examples.id.astype(str) + f"-{k}",
                "image": entries[k],
                "caption": texts[k],
                "foil": texts[1 - k],
                "pair": examples.id,
            }
        )
        for k in (0, 1)
    ]
    table = pd.concat(sides).sort_index(kind="stable").reset_index(drop=True)  # both of an example in a row
    return Pictures.of("winoground", table, read, "test")


def _of_lines(folder: Path, path: Path) -> tuple[pd.DataFrame, list[list[str]], Callable]:
    columns = {**TEXTS, **dict.fromkeys(SIDES, str)}
    examples = records(path, read_json_lines(path), "line", columns, unique="id", first=1)
    if not (folder / "images").is_dir():
        raise LayoutError(f"there is no folder images beside {path}: unpack images.zip there")
    listed = by_stem(folder / "images")
    entries = [[f"images/{listed.get(name, name)}" for name in examples[side]] for side in SIDES]
    return examples, entries, PicturesIn(folder, ("images",))


def _of_parquet(folder: Path, paths: list[Path]) -> tuple[pd.DataFrame, list[list[str]], Callable]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    tables, entries = [], [[], []]
    for path in paths:
        try:
            with ParquetFile(path) as opened:
                missing = {*TEXTS, *SIDES} - {*opened.schema_arrow.names}
                if missing:
                    raise LayoutError(f"{path} has no column {', '.join(sorted(missing))}: {HOW}")
                rows = opened.read(columns=[*TEXTS]).to_pylist()
        except (ArrowException, OSError) as error:
            raise LayoutError(f"{path} can't be read as a parquet file ({one_line(error)})") from error
        tables.append(records(path, rows, "row", TEXTS))
        for side, names in zip(SIDES, entries, strict=True):
            names += [f"{path.name}:{row}:{side}" for row in range(len(rows))]
    examples = pd.concat(tables, ignore_index=True)
    check_unique(folder, examples.id, "examples", "id", range(len(examples)))
    return examples, entries, _embedded(folder)


def _embedded(folder: Path) -> Callable[[object], Image.Image]:
    """From "FILE:ROW:COLUMN" to the picture in a parquet file, of which one row group at a time is kept."""
    from pyarrow.parquet import ParquetFile

    @cache
    def group_ends(file: str) -> np.ndarray:
        with ParquetFile(folder / file) as opened:
            about = opened.metadata
            return np.cumsum([about.row_group(group).num_rows for group in range(about.num_row_groups)])

    @lru_cache(maxsize=1)
    def pictures_in(file: str, group: int):
        with ParquetFile(folder / file) as opened:
            return opened.read_row_group(group, columns=[*SIDES])

    def read(entry: object) -> Image.Image:
        file, row, side = str(entry).rsplit(":", 2)
        ends = group_ends(file)
        group = int(np.searchsorted(ends, int(row), side="right"))
        value = pictures_in(file, group)[side][int(row) - int(ends[group])].as_py()  # from the end: row < ends[group]
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise ValueError(f"row {row} of {file} holds no {side}: {HOW}")
        return decode(BytesIO(content), f"the {side} in row {row} of {file}")

    read.stamp = lambda entry: stamp_of(folder / str(entry).rsplit(":", 2)[0])
    return read


@layout(HOW_PROBES)
def svo_probes(folder: Path, split: str | None = None) -> Pictures:
    """A sample a row of ``svo_probes.csv``, labelled by its number from 0: the positive image with the sentence, the negative
    one as ``foil_image``, and as ``attributes`` which of subject, verb and object it differs in.

    folder : holds the table and a folder ``images`` with a file for each image's id, of whatever kind.
    """
    choose_split("svo-probes", folder, (), split)
    path = folder / "svo_probes.csv"
    if not path.is_file() or not (folder / "images").is_dir():
        missing = "no folder images" if path.is_file() else "no svo_probes.csv"
        raise LayoutError(f"there is {missing} in {folder}: {HOW_PROBES}")
    rows, listed = read_rows(path), by_stem(folder / "images")
    ids = {side: whole_numbers(path, column(path, rows, f"{side}_image_id")) for side in ("pos", "neg")}
    files = {side: "images/" + own.astype(str).map(lambda name: listed.get(name, name)) for side, own in ids.items()}
    differs = pd.Series("", index=rows.index, dtype=object)
    for part, name in NEGATIVE.items():
        flags = column(path, rows, name)
        check_lines(path, flags, r"(?i)\s*(true|false)\s*", ", but True or False is needed")
        differs = differs.mask(flags.str.strip().str.lower() == "true", differs + f", {part}")
    table = pd.DataFrame(
        {
            "label": [str(number) for number in range(len(rows))],
            "image": files["pos"],
            "caption": column(path, rows, "sentence"),
            "foil_image": files["neg"],
            "image_id": ids["pos"],
            "attributes": differs.str.removeprefix(", "),
        }
    )
    return Pictures.of("svo-probes", table, PicturesIn(folder, ("images",)))
