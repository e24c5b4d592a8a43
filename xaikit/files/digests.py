"""What a dataset holds, and what the code says, as digests: the same values, names and attributes give the same digits."""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import xarray as xr

from .paths import CHECKOUT

ATTRIBUTE = "content_digest"


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
