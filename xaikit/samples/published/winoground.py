"""Winoground: 400 examples of two images and two captions of the same words, each true of one image.

Thrush et al., Winoground: Probing Vision and Language Models for Visio-Linguistic Compositionality, 2022.
"""

from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image

from ...files.images import decode
from ..pictures import Pictures
from ..tables import (
    LayoutError,
    by_stem,
    check_unique,
    choose_split,
    first_folder,
    picture_in,
    read_json_lines,
    records,
)

if TYPE_CHECKING:
    import pyarrow

HOW = "get it from the dataset facebook/winoground at huggingface.co, whose terms have to be accepted first"
TEXTS = {"id": int, "caption_0": str, "caption_1": str}
SIDES = ("image_0", "image_1")


def open_winoground(folder: Path, split: str | None = None) -> Pictures:
    """Two samples an example, "ID-0" and "ID-1": each image with its caption, the other caption being its foil.

    folder : holds ``test-*.parquet``, there or in ``data``, with the images in it, or ``examples.jsonl``, there or in
        ``data``, with a folder ``images`` beside it.
    split : "test", the only one.
    """
    choose_split("winoground", folder, ("test",), split)
    for at in (folder, folder / "data"):
        tables = sorted(at.glob("*.parquet")) if at.is_dir() else []
        if tables:
            return _of_parquet(at, tables)
        if (at / "examples.jsonl").is_file():
            return _of_lines(at, at / "examples.jsonl")
    raise LayoutError(f"there is neither a *.parquet file nor examples.jsonl in {folder} or its folder data: {HOW}")


def _of_lines(folder: Path, path: Path) -> Pictures:
    examples = records(
        path, read_json_lines(path), "line", {**TEXTS, **dict.fromkeys(SIDES, str)}, unique="id", first=1
    )
    if first_folder(folder, ("images",)) is None:
        raise LayoutError(f"there is no folder images beside {path}: unpack images.zip there")
    listed = by_stem(folder / "images")
    entries = [[f"images/{listed.get(name, name)}" for name in examples[side]] for side in SIDES]
    return _samples(examples, entries, picture_in(folder, ("images",)))


def _of_parquet(folder: Path, paths: list[Path]) -> Pictures:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    tables, entries = [], ([], [])
    for path in paths:
        try:
            with ParquetFile(path) as opened:
                missing = {*TEXTS, *SIDES} - {*opened.schema_arrow.names}
                if missing:
                    raise LayoutError(f"{path} has no column {', '.join(sorted(missing))}: {HOW}")
                rows = opened.read(columns=[*TEXTS]).to_pylist()
        except (ArrowException, OSError) as error:
            raise LayoutError(f"{path} can't be read as a parquet file ({' '.join(str(error).split())})") from error
        tables.append(records(path, rows, "row", TEXTS))
        for side, names in zip(SIDES, entries, strict=True):
            names += [f"{path.name}:{row}:{side}" for row in range(len(rows))]
    examples = pd.concat(tables, ignore_index=True)
    check_unique(folder, examples.id, "examples", "id", range(len(examples)))
    return _samples(examples, entries, _Embedded(folder))


def _samples(examples: pd.DataFrame, entries: tuple[list[str], list[str]], read) -> Pictures:
    """Both samples of an example are in a row."""
    texts = examples.caption_0, examples.caption_1
    sides = [
        pd.DataFrame({"image": entries[k], "caption": texts[k], "foil": texts[1 - k], "pair": examples.id, "side": k})
        for k in (0, 1)
    ]
    table = pd.concat(sides).sort_index(kind="stable").reset_index(drop=True)
    labels = (table.pair.astype(str) + "-" + table.pop("side").astype(str)).to_numpy(object)
    return Pictures("winoground", labels, about={"split": "test"}, table=table, read=read)


class _Embedded:
    """From "FILE:ROW:COLUMN" to the picture in a parquet file, of which one row group at a time is kept."""

    def __init__(self, folder: Path):
        self._group = lru_cache(maxsize=1)(lambda file, group: _read_group(folder / file, group))
        self._starts = lru_cache(maxsize=None)(lambda file: _group_starts(folder / file))

    def __call__(self, entry: object) -> Image.Image:
        file, row, side = str(entry).rsplit(":", 2)
        starts = self._starts(file)
        group = max(index for index, start in enumerate(starts) if start <= int(row))
        value = self._group(file, group)[side][int(row) - starts[group]].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise ValueError(f"row {row} of {file} holds no {side}: {HOW}")
        return decode(BytesIO(content), f"the {side} in row {row} of {file}")


def _group_starts(path: Path) -> list[int]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as opened:
        sizes = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
    return [sum(sizes[:group]) for group in range(len(sizes))]


def _read_group(path: Path, group: int) -> "pyarrow.Table":
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as opened:
        return opened.read_row_group(group, columns=[*SIDES])
