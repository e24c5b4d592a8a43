"""Save and open the datasets that notebooks hand to one another: one netCDF file a store, whole or not at all, checked
against ``schema`` when saved and when opened; and digests of datasets, files and code: the same give the same digits."""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
import xarray as xr

from .paths import CHECKOUT, replacing, run_folder
from .schema import COORDINATES, DIRECTIONS, OPEN_STAGES, SCHEMA, VERSION

ATTRIBUTE = "content_digest"


class SchemaError(ValueError):
    """A dataset is not what its stage of the schema says; the message names the first difference."""


class Weighted(Protocol):
    """A model, as far as a store tells of it."""

    name: str
    weights_digest: str


def annotate(
    ds: xr.Dataset, stage: str = "inputs", made_by: Weighted | None = None, source: str = "", **made_with
) -> xr.Dataset:
    """A copy with the schema's ``long_name`` and ``units`` and a ``provenance`` attribute.

    made_by : the model that made the dataset, for its name, the digest of its weights, and their set-up. source : of the
    variables' equations, an attribute of each. made_with : what else made it (seed, parameters, ...), as JSON-able values; added
    to what is there already. Raises SchemaError where the dataset then isn't what its stage of the schema says.

    Examples
    --------
    >>> again = xk.files.annotate(scenes, note="kept")
    >>> xk.files.provenance(again)["note"], again.image.units
    ('kept', '0-255')
    """
    if made_by is not None:
        setup = {"setup": made_by.setup} if hasattr(made_by, "setup") else {}
        made_with = {"model": made_by.name, "weights_digest": made_by.weights_digest, **setup, **made_with}
    known = SCHEMA[_known_stage(stage)]
    ds = ds.copy()
    for name, variable in ds.variables.items():
        found = (COORDINATES if name in ds.coords else known).get(name)
        if found is not None:
            variable.attrs |= {"long_name": found.long_name, "units": found.units}
        if source and name not in ds.coords:
            variable.attrs |= {"source": source}
    about = {"schema_version": VERSION, "stage": stage, "xaikit_version": version("xaikit")}
    about = provenance(ds) | about | made_with
    ds.attrs["provenance"] = json.dumps(about, sort_keys=True)
    return validate(ds, stage)


def provenance(ds: xr.Dataset) -> dict:
    """What made the dataset. Raises SchemaError for an attribute that isn't JSON.

    Examples
    --------
    >>> xk.files.provenance(scenes)["seed"]
    0
    """
    try:
        return json.loads(ds.attrs.get("provenance", "{}"))
    except (TypeError, ValueError) as error:
        raise SchemaError(f"the provenance attribute isn't JSON ({error})") from error


def annotate_from(source: xr.DataArray, ds: xr.Dataset, stage: str, **analysis) -> xr.Dataset:
    """``annotate`` what was computed from an array, with the array's provenance and how (``analysis``)."""
    ds = ds.assign_attrs(provenance=source.attrs.get("provenance", "{}"))
    return annotate(ds, stage, analysis=analysis)


def inputs_digest(scenes: xr.Dataset) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over images and captions, to tell inputs apart in stores.

    Examples
    --------
    >>> len(xk.files.inputs_digest(scenes))
    16
    """
    captions = "\n".join(str(caption) for caption in scenes.caption.values)
    return hashlib.sha256(scenes.image.values.tobytes() + captions.encode()).hexdigest()[:16]


def _known_stage(stage: str) -> str:
    if stage not in SCHEMA:
        raise SchemaError(f"unknown stage {stage!r}: the schema has {', '.join(SCHEMA)}")
    return stage


def validate(ds: xr.Dataset, stage: str) -> xr.Dataset:
    """The dataset itself, or SchemaError that names its first difference from the schema.

    Examples
    --------
    >>> xk.files.validate(scenes, "inputs") is scenes
    True
    """
    known = SCHEMA[_known_stage(stage)]
    about = provenance(ds)
    found = about.get("schema_version")
    if found != VERSION:
        raise SchemaError(f"the dataset has schema version {found}, but this xaikit reads version {VERSION}")
    if about.get("stage") != stage:
        raise SchemaError(f"the dataset is of stage {about.get('stage')!r}, not {stage!r}")
    for name, wanted in known.items():
        if name not in ds:
            if wanted.required:
                raise SchemaError(f"{stage}: the variable {name!r} is missing")
            continue
        if ds[name].dims != wanted.dims:
            raise SchemaError(f"{stage}: {name!r} has dimensions {ds[name].dims}, not {wanted.dims}")
        if ds[name].dtype.kind not in wanted.kinds:
            raise SchemaError(f"{stage}: {name!r} has type {ds[name].dtype}, not one of kind {wanted.kinds!r}")
    for name, variable in ds.data_vars.items():
        if name not in known and variable.dims not in OPEN_STAGES.get(stage, ()):
            raise SchemaError(f"{stage}: the variable {name!r} {variable.dims} isn't in the schema")
        for attribute in ("long_name", "units"):
            if attribute not in variable.attrs:
                raise SchemaError(f"{stage}: {name!r} lacks the attribute {attribute!r}")
        if stage == "evaluation" and name not in known and variable.attrs.get("score_direction") not in DIRECTIONS:
            raise SchemaError(f"{stage}: the metric {name!r} lacks a score_direction ({', '.join(DIRECTIONS)})")
    return ds


def write(ds: xr.Dataset, path: str | Path, stage: str) -> Path:
    """Validate and save to one file with its digest, whole or not at all.

    Examples
    --------
    >>> xk.files.write(scenes, xk.files.run_folder("example") / "mine.nc", "inputs").name
    'mine.nc'
    """
    validate(ds, stage)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    encoding = {name: packed for name, v in ds.variables.items() if v.dtype.kind in "iufb" and v.size > 256}
    # In memory first: HDF5 crashes its process when the disk fills up under it.
    whole = ds.assign_attrs({ATTRIBUTE: content_digest(ds)}).to_netcdf(engine="h5netcdf", encoding=encoding)
    with replacing(path) as temporary:
        temporary.write_bytes(whole)
    return path


def read(path: str | Path, stage: str) -> xr.Dataset:
    """Open a file whole, and check it against the schema and its digest. Raises FileNotFoundError, or SchemaError for
    another schema, a file that is no store at all, or one that was changed after it was saved.

    Examples
    --------
    >>> path = xk.files.write(scenes, xk.files.run_folder("example") / "mine.nc", "inputs")
    >>> xk.files.read(path, "inputs").identical(scenes)
    True
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no store {path}")
    try:
        ds = xr.load_dataset(path, engine="h5netcdf")
    except (OSError, ValueError, RuntimeError, KeyError) as error:  # whatever HDF5 says of a damaged file
        raise SchemaError(f"{path} can't be read as a store ({error})") from error
    wanted = ds.attrs.pop(ATTRIBUTE, None)
    try:
        validate(ds, stage)
    except SchemaError as error:
        raise SchemaError(f"{path}: {error}") from None
    if wanted != content_digest(ds):
        told = "carries no digest" if wanted is None else "isn't what was saved: its digest differs"
        raise SchemaError(f"{path} {told}; delete it, and compute it again")
    return ds


def digest_in(path: Path) -> str:
    """The digest that a store carries, without reading it; "" for none, or no store."""
    return str(_attributes_in(path).get(ATTRIBUTE, ""))


def stage_in(path: Path) -> str:
    """The stage of the schema that a store is of, without reading it. Raises SchemaError for a file that is no store."""
    found = _attributes_in(path)
    stage = provenance(xr.Dataset(attrs=found)).get("stage") if found else None
    if stage is None:
        raise SchemaError(
            f"{path} can't be read as a store: it is damaged, or says of no stage of the schema that it is one"
        )
    return _known_stage(str(stage))


def _attributes_in(path: Path) -> dict:
    try:
        with h5py.File(path) as file:  # a dataset would read the heads of all variables, too
            return dict(file.attrs)
    except (OSError, ValueError, RuntimeError, KeyError):
        return {}


def save_store(ds: xr.Dataset, run: str, name: str, stage: str | None = None) -> Path:
    """Save as ``runs/RUN/NAME.nc``; the stage is the name unless given.

    Examples
    --------
    >>> xk.save_store(scenes, "example", "inputs").name
    'inputs.nc'
    >>> xk.open_store("example", "inputs").identical(scenes)
    True
    """
    return write(ds, run_folder(run) / f"{name}.nc", stage or name)


def open_store(run: str, name: str, stage: str | None = None, made_with: dict | None = None) -> xr.Dataset:
    """Open ``runs/RUN/NAME.nc``.

    made_with: what its provenance must say, such as the ``weights_digest`` of the model now in use. Raises
    FileNotFoundError that says which notebook writes a missing store, ValueError for one made with something else.

    Examples
    --------
    >>> path = xk.save_store(scenes, "example", "inputs")
    >>> xk.open_store("example", "inputs", made_with={"seed": 0}).sizes["sample"]
    4
    """
    path = run_folder(run) / f"{name}.nc"
    if not path.is_file():
        raise FileNotFoundError(f"the run {run!r} has no store {name!r} yet: run {writer_of(name)} first")
    found = read(path, stage or name)
    about = provenance(found)
    for key, wanted in (made_with or {}).items():
        if about.get(key) != wanted:
            raise ValueError(
                f"the store {name!r} of run {run!r} has {key} {about.get(key)}, not {wanted}: run {writer_of(name)} again"
            )
    return found


def declared_stores(notebook: dict) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The names of the stores that a notebook, as its file holds it, says that it writes, and of those that it reads; None
    where it says nothing of them."""
    declared = notebook["metadata"].get("xaikit", {})
    reads = declared.get("reads")
    return tuple(declared.get("stores", ())), None if reads is None else tuple(reads)


def writer_of(name: str) -> str:
    """The notebook that says that it writes the store of this name, as a sentence calls it."""
    for path in sorted((CHECKOUT / "notebooks").glob("[0-9]*.ipynb")):
        if name in declared_stores(json.loads(path.read_text(encoding="utf-8")))[0]:
            return f"notebook {path.stem}"
    return "what writes it"


def content_digest(ds: xr.Dataset) -> str:
    """SHA-256, hexadecimal, over all variables and attributes (but the digest's own), in the order of their names.

    Text counts by its characters and not by how wide it is stored, so that a dataset keeps its digest in a file.

    Examples
    --------
    >>> content_digest(scenes) == content_digest(scenes.copy(deep=True))
    True
    """
    digest = hashlib.sha256(_attributes(ds.attrs))
    for name in sorted(ds.variables, key=str):
        variable = ds.variables[name]
        values = np.asarray(variable.values)
        kind = "text" if values.dtype.kind in "OUT" else values.dtype.str
        digest.update(json.dumps([str(name), variable.dims, values.shape, kind]).encode())
        digest.update(_attributes(variable.attrs))
        if kind == "text":
            digest.update(json.dumps([str(text) for text in values.ravel()]).encode())
        else:
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _attributes(attrs: dict) -> bytes:
    plain = {str(name): np.atleast_1d(value).tolist() for name, value in attrs.items() if name != ATTRIBUTE}
    return json.dumps(plain, sort_keys=True).encode()


def code_digest(without: Sequence[str] = ()) -> str:
    """A digest of the package's code, but for some of its folders.

    Examples
    --------
    >>> len(xk.files.code_digest())
    64
    """
    digest = hashlib.sha256()
    for source in sorted((CHECKOUT / "xaikit").rglob("*.py")):
        name = source.relative_to(CHECKOUT)
        if name.parts[1] not in without:
            digest.update(name.as_posix().encode() + file_digest(source).encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256, hexadecimal, of what a file holds, read again only when it has changed."""
    return _digest_of(path, path.stat().st_mtime_ns)


@cache
def _digest_of(path: Path, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
