"""Files of the model hub, fetched once into its cache; or one sentence that says which can't be had, why, and what to do.

Nothing else in xaikit fetches: what a model needs comes here first, then it is loaded from the cache with the hub switched
off. So nothing is fetched twice or from elsewhere, and a model is what was named or an error.
"""

import contextlib
import errno
import json
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from .checks import one_line

ANSWER = 10  # seconds until a hub that says nothing is taken for none
STALL = 3  # seconds without a byte until a download goes on from where it was, which huggingface_hub tries five times
PIECE = 2**18  # bytes that a download is at most thrown back by a cut
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
AGAIN = "what was fetched stays, give the same command again"


class HubError(FileNotFoundError):
    """A file of the hub is neither in its cache nor to be had."""


def fetch(
    model: str, repository: str, files: Sequence[str], beside: Sequence[str] = (), revision: str | None = None
) -> Path:
    """The path of one file of a repository on the hub, fetched where the cache lacks it.

    Parameters
    ----------
    model : what is being loaded, as messages call it.
    repository : "OWNER/NAME", of the hub that ``HF_ENDPOINT`` names, huggingface.co without it.
    files : names of which one is needed, the best first.
    beside : patterns of the names of files that come along, in the same folder, where there are any.
    revision : a branch, tag or commit, None for the newest.

    What the cache holds is taken without asking the hub. A download that is cut or stalls goes on from where it was. Raises
    HubError within half a minute of a hub that doesn't give what is needed.
    """
    from huggingface_hub import (
        HfApi,
        constants,
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )

    try:
        for name in files:
            if isinstance(found := try_to_load_from_cache(repository, name, revision=revision), str):
                return Path(found)
        there = [
            each.rfilename for each in HfApi().model_info(repository, revision=revision, timeout=ANSWER).siblings or ()
        ]
        wanted = next((name for name in files if name in there), None)
        if wanted is None:
            raise HubError(_lacks(repository, files, there))
        along = [name for name in there if "/" not in name and any(fnmatch(name, pattern) for pattern in beside)]
        for name in [*(name for name in along if name != wanted), wanted]:  # last what says that all is there
            # Asked once before, for huggingface_hub asks a hub that is silent, or answers 500, for minutes.
            get_hf_file_metadata(hf_hub_url(repository, name, revision=revision), timeout=ANSWER)
            stall = constants.HF_HUB_DOWNLOAD_TIMEOUT if "HF_HUB_DOWNLOAD_TIMEOUT" in os.environ else STALL
            with _settings(HF_HUB_DOWNLOAD_TIMEOUT=stall, DOWNLOAD_CHUNK_SIZE=PIECE):
                found = hf_hub_download(repository, name, revision=revision, etag_timeout=ANSWER)
    except Exception as error:  # whatever fails in there, the model can't be had
        raise HubError(f"{model} can't be had: {_why(error, repository)}") from error
    return Path(found)


@contextlib.contextmanager
def hub_off() -> Iterator[None]:
    """Meanwhile whatever asks the hub gets what its cache holds, or an error at once."""
    with _settings(HF_HUB_OFFLINE=True):
        yield


@contextlib.contextmanager
def _settings(**values: object) -> Iterator[None]:
    """Constants of huggingface_hub, which reads them at each call, set for a while."""
    from huggingface_hub import constants

    before = {name: getattr(constants, name) for name in values}
    vars(constants).update(values)
    try:
        yield
    finally:
        vars(constants).update(before)


def _lacks(repository: str, files: Sequence[str], there: Sequence[str]) -> str:
    pickles, wanted = [name for name in there if name.endswith(PICKLES)], " or ".join(files)
    if pickles and ".safetensors" in wanted:
        return (
            f"{repository} holds its weights only as pickles ({', '.join(pickles[:3])}), which are never loaded, and no"
            f" {wanted}: choose another tag or model, or convert them to safetensors"
        )
    return f"{repository} has no file {wanted}; it holds {', '.join(there[:5]) or 'nothing'}"


def _why(error: BaseException, repository: str) -> str:
    """What happened, and what to do."""
    from huggingface_hub import constants, errors

    if isinstance(error, HubError):
        return str(error)
    hub, chain = constants.ENDPOINT, [*_chain(error)]
    status = getattr(getattr(error, "response", None), "status_code", None)

    def was(*kinds: type) -> bool:
        return any(isinstance(each, kinds) for each in chain)

    # Of errors that are kinds of one another the narrower ones come first.
    if constants.HF_HUB_OFFLINE:
        return (
            f"{repository} isn't in the cache {constants.HF_HUB_CACHE}, and the hub is switched off (HF_HUB_OFFLINE):"
            " fetch it once with a connection, such as by load_clip or xaikit run"
        )
    if was(errors.GatedRepoError):
        return (
            f"{repository} is gated: accept its terms at {hub}/{repository}, then please log in with 'hf auth login', or set"
            " HF_TOKEN"
        )
    if was(errors.RepositoryNotFoundError):
        return f"{hub} has no {repository}, or it is private: check the name, or log in with 'hf auth login'"
    if status in (401, 403):
        return f"{hub} refuses {repository} ({status}): log in with 'hf auth login', or set HF_TOKEN"
    if status is not None:
        return (
            f"{hub} answered {status} for {repository}: the hub, or a portal or proxy in between, has a fault; {AGAIN}"
        )
    if was(socket.gaierror):
        return f"the name of {hub} can't be looked up: check the connection and DNS; {AGAIN}"
    if was(ConnectionRefusedError):
        return f"{hub} refuses connections: check HF_ENDPOINT, the proxy and the connection; {AGAIN}"
    if was(ssl.SSLError):
        return f"{hub} has no certificate that is trusted here: a proxy or portal may stand in between"
    if was(TimeoutError):
        return f"{hub} didn't answer in time: check the connection, or try later; {AGAIN}"
    if was(errors.FileMetadataError, json.JSONDecodeError):
        return f"what answers at {hub} is no model hub: a portal may ask for a login, or HF_ENDPOINT be wrong"
    if any(getattr(each, "errno", None) == errno.ENOSPC for each in chain):
        return f"the disk with the cache {constants.HF_HUB_CACHE} is full: make room, or set HF_HOME"
    return f"{one_line(error)} ({repository} at {hub}); {AGAIN}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
