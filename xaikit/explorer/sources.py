"""Where what is shown comes from: pictures (scenes, uploads, files) with their prompts and their truth, and the stores of a run."""

import contextlib
import hashlib
import io
import re
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image

from ..files.images import decode, read_image
from ..files.paths import runs_folder
from ..files.store import SchemaError, inputs_digest, provenance, read, stage_in
from ..running.record import read_record
from ..samples.captions import name_objects
from .jobs import Cache

PICTURES = 8  # of the user's own, kept; each can take 100 megabytes
MOST_PIXELS = 40_000_000
MOST_BYTES = 30_000_000
MOST_ASPECT = 20  # times as long as wide; on a narrower one nothing could be seen


@dataclass(frozen=True)
class Subject:
    """What is explained: a picture and a prompt.

    image : as the model sees it, uint8 (y, x, rgb). source : what the model is given. scene : its planted truth, None for
    a picture of one's own. named : which pixels (y, x) belong to objects that the prompt names, None where there is no truth.
    """

    image: np.ndarray
    source: Any
    prompt: str
    scene: xr.Dataset | None = None
    named: np.ndarray | None = None

    @cached_property
    def captioned(self) -> bool:
        """Whether the prompt is the scene's own caption."""
        return self.scene is not None and self.prompt == str(self.scene.caption.item())

    @cached_property
    def key(self) -> str:
        """Tells the picture apart from others."""
        content = self.source.tobytes() if hasattr(self.source, "tobytes") else self.image.tobytes()
        return hashlib.sha256(content + str(self.image.shape).encode()).hexdigest()[:16]


def with_objects(scene: xr.Dataset) -> xr.Dataset:
    """A scene as it is, or with no object where nobody has annotated any, as in photographs."""
    if "object_mask" not in scene:
        none = {"object_mask": np.zeros((0, *scene.image.shape[:2]), bool), "object_named": np.zeros(0, bool)}
        none["object_name"] = np.zeros(0, "<U1")
        scene = scene.assign({name: (("object", "y", "x")[: values.ndim], values) for name, values in none.items()})
    if "object_group" not in scene:
        scene = scene.assign(object_group=("object", np.arange(scene.sizes["object"])))
    return scene


def named_pixels(scene: xr.Dataset, prompt: str) -> np.ndarray | None:
    """The pixels (y, x) of the objects that a prompt names, None where it names none."""
    if prompt == str(scene.caption.item()):
        named = scene.object_named.values
    else:
        words = re.findall(r"\w+", prompt.lower()) or [""]
        found = name_objects(np.array([words]), scene.expand_dims("sample")).token_object.values
        group = scene.object_group.values
        # alike in colour and shape, as in the scenes' truth
        named = np.isin(group, group[found[found >= 0]]) & (group >= 0)
    pixels = scene.object_mask.values[named].any(0)
    return pixels if pixels.any() else None


class Pictures:
    """The pictures that were handed over last, and the files that were read last."""

    def __init__(self):
        reading = threading.RLock()
        self._uploads, self._files = Cache(PICTURES, reading), Cache(PICTURES, reading)
        self._digests: dict[str, str] = {}  # of uploads by name, also of those that are no longer kept

    def upload(self, name: str, content: bytes) -> str:
        """Take a picture's bytes; from then on it is known by the name that is returned, another one where another picture
        has that name. Raises ValueError for no picture."""
        picture, digest = read_upload(name, content), hashlib.sha256(content).hexdigest()
        path, number = PurePath(name), 2
        while self._digests.get(name, digest) != digest:
            name, number = f"{path.stem} ({number}){path.suffix}", number + 1
        self._digests[name] = digest
        self._uploads.keep(name, picture)
        return name

    def uploaded(self, name: str | None) -> bool:
        """Whether a picture of this name was handed over."""
        return name in self._digests

    def __getitem__(self, name: str) -> Image.Image:
        """An uploaded picture, or a file as it is now. Raises ValueError for no picture, or an upload that is no longer kept,
        FileNotFoundError for a missing file."""
        try:
            return self._uploads[name]
        except KeyError:
            if self.uploaded(name):
                why = f"{name} is no longer kept, only the last {PICTURES} uploads are: upload it again"
                raise ValueError(why) from None
        path = Path(name)
        try:
            return self._files.kept((name, path.is_file() and _version(path)), lambda: read_image(path))
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(str(error).removeprefix("image 0: ")) from error


# uploads


def check_bytes(name: str, size: int) -> None:
    """Raise ValueError for a file of too many bytes."""
    if size > MOST_BYTES:
        raise ValueError(f"{name} has {size / 1e6:.0f} MB: pictures up to {MOST_BYTES / 1e6:.0f} MB are taken")


def read_upload(name: str, content: bytes) -> Image.Image:
    """An RGB picture from a file's bytes, upright, on white where it is transparent.

    Raises ValueError, in one sentence that names the file, for what is no picture, too large a one or too narrow a one; the
    size is read before anything is decoded.
    """
    check_bytes(name, len(content))
    return decode(io.BytesIO(content), name, MOST_PIXELS, MOST_ASPECT)


# runs


class RunStores:
    """What a run has stored, read when it is asked for. run : its name among the runs, or the path of its folder.

    Raises FileNotFoundError for a folder that isn't there or has no store.
    """

    def __init__(self, run: str):
        self.run, self.folder = run, folder_of(run)
        self.paths = {path.stem: path for path in _stores_in(self.folder)}
        if not self.paths:
            raise FileNotFoundError(f"run={run!r}: {self.folder} has no store (.nc); run the workbook into it first")
        self._open: dict[str, xr.Dataset] = {}
        self.broken: dict[str, str] = {}  # why a store was left out, by name

    def __getitem__(self, name: str) -> xr.Dataset:
        """A store by name, read whole and checked. Raises ValueError for one that the run doesn't have."""
        if name not in self.paths:
            raise ValueError(f"run={self.run!r} has no store {name!r}: it has {', '.join(self.paths)}")
        if name not in self._open:
            self._open[name] = read(self.paths[name], self.stages[name])
        return self._open[name]

    @cached_property
    def stages(self) -> dict[str, str]:
        """The stage of the schema that each store is of, by name; "" for one that can't be read."""
        stages = dict.fromkeys(self.paths, "")
        for name, path in self.paths.items():
            with contextlib.suppress(SchemaError):
                stages[name] = stage_in(path)
        return stages

    @cached_property
    def scenes(self) -> xr.Dataset:
        """The run's scenes. Raises FileNotFoundError for a run without any."""
        if "inputs" not in self.paths:
            raise FileNotFoundError(f"run={self.run!r} has no store 'inputs': run notebook 00_planted_scenes first")
        return self["inputs"]

    @cached_property
    def inputs_digest(self) -> str:
        """Of the run's scenes, to tell which stores are made from them."""
        return inputs_digest(self.scenes)

    @cached_property
    def other_scenes(self) -> dict[str, xr.Dataset]:
        """Scenes that a notebook drew for itself, such as 06, by their digest."""
        return {inputs_digest(store): store for name, store in self.of_stage("inputs").items() if name != "inputs"}

    @cached_property
    def parameters(self) -> dict[str, object] | None:
        """What the run was started with, None where there is no record that can be read and says so."""
        try:
            parameters = read_record(self.folder)["parameters"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return parameters if isinstance(parameters, dict) else None

    def of_stage(self, stage: str) -> dict[str, xr.Dataset]:
        """The stores of a stage, by name. One that can't be read is left out, and its reason kept in ``broken``."""
        found = {}
        for name in (name for name, of in self.stages.items() if of == stage and name not in self.broken):
            try:
                found[name] = self[name]
            except (OSError, ValueError) as error:
                self.broken[name] = str(error)
        return found

    def made_from_scenes(self, stage: str) -> list[xr.Dataset]:
        """The stores of a stage that were made from the run's own scenes; a run without scenes has none."""
        stores = self.of_stage(stage).values() if "inputs" in self.paths else ()
        return [store for store in stores if provenance(store).get("inputs_digest") == self.inputs_digest]


def folder_of(run: str) -> Path:
    """A run's folder, by its name among the runs or its path. Raises FileNotFoundError where there is none."""
    for folder in (runs_folder() / run, Path(run)):
        if folder.is_dir():
            return folder.resolve()
    known = ", ".join(known_runs())
    others = f"the runs are {known}" if known else "there is no run yet: 'make workbook' makes one"
    raise FileNotFoundError(f"run={run!r}: there is no such run folder; {others}")


def stamp(run: str) -> tuple:
    """Changes whenever a store of the run does."""
    return tuple((path.name, *_version(path)) for path in _stores_in(folder_of(run)))


def _version(path: Path) -> tuple[int, int]:
    """Changes whenever a file does."""
    about = path.stat()
    return about.st_mtime_ns, about.st_size


def _stores_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.nc") if not path.name.startswith("."))


def known_runs() -> list[str]:
    """The names of the runs that have a store.

    Examples
    --------
    >>> all(name for name in known_runs())
    True
    """
    return sorted({store.parent.name for store in runs_folder().glob("*/*.nc")})
