"""Execute one notebook with papermill, in a kernel of its own that keeps off the network, and say why it failed; and have what
it needs from there before."""

import os
import sys
import time
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..files.checks import check_number
from ..files.models import CLIPS, MLLMS, check_clip_name, mllm_folder
from ..files.paths import find_named, notebooks_folder
from ..samples.layouts import known_layouts, open_source
from .notebooks import OF_DATA

# glibc gives large arrays back to the system after each use and then waits for fresh pages: nearly half of a notebook's time.
_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
OFFLINE = "XAIKIT_OFFLINE"
UNATTENDED = "XAIKIT_UNATTENDED"  # nobody presses a widget: its picture is enough
_OFF_NETWORK = dict.fromkeys((OFFLINE, "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
HERE = {"localhost", "127.0.0.1", "::1", "", "0.0.0.0"}
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_kernels = weakref.WeakSet()


class OutOfTime(TimeoutError):
    """A notebook was stopped at its time limit."""


def check_limit(limit: float | None) -> None:
    """Raise ValueError for a time limit that is no number of seconds above 0, or None."""
    if limit is not None:
        check_number(0, what="number of seconds", open_low=True, limit=limit)


def execute(
    notebook: Path,
    target: Path,
    parameters: Mapping[str, object],
    runs: Path,
    limit: float | None = None,
    threads: int | None = None,
) -> None:
    """Execute one notebook, its stores going to the folder ``runs``, and save it as ``target``; while it runs, and if it fails,
    what there is of it stands there with the ending .part.ipynb.

    limit : seconds it may take, None for any; then it is stopped with OutOfTime. threads : of its computations, None for as
    many as they like.
    """
    import papermill
    from jupyter_client import AsyncKernelManager
    from nbclient.exceptions import CellTimeoutError
    from traitlets.config import Config

    part = target.resolve().with_suffix(".part.ipynb")
    variables = {"XAIKIT_RUNS": str(runs), UNATTENDED: "1", **_MEMORY, **_OFF_NETWORK}
    variables |= dict.fromkeys(_THREADS if threads else (), str(threads))
    stopped = OutOfTime(f"stopped at its time limit of {limit} s (see {part})")
    end = None if limit is None else time.monotonic() + limit

    def left(cell: object) -> float | None:  # nbclient's limit is a cell's: each gets what is left
        seconds = None if end is None else end - time.monotonic()
        if seconds is not None and seconds <= 0:
            raise stopped
        return seconds

    class Kernel(AsyncKernelManager):
        """A kernel with variables of its own."""

        async def start_kernel(self, **options) -> None:
            await super().start_kernel(**options, env=os.environ | variables)
            _kernels.add(self)

    try:
        papermill.execute_notebook(
            _as_it_stands(notebook.resolve()),
            _as_it_stands(part),
            parameters=dict(parameters),
            cwd=str(notebook.resolve().parent),
            kernel_name="python3",
            progress_bar=False,
            timeout_func=left,
            shutdown_kernel="immediate",
            kernel_manager_class=Kernel,
            config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        )
    except CellTimeoutError as error:
        raise stopped from error
    with open(part, "rb") as written:
        os.fsync(written.fileno())
    os.replace(part, target)


def _as_it_stands(path: Path) -> str:
    """A path for papermill, which puts parameters in place of what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def end_kernels() -> None:
    """Kill the kernels of all notebooks that threads of this process execute; they fail."""
    for kernel in [*_kernels]:
        if kernel.has_kernel:
            kernel.provisioner.process.kill()


def failure(error: BaseException) -> str:
    """Why a notebook failed, in one line."""
    text, where = str(error) if isinstance(error, OutOfTime) else f"{type(error).__name__}: {error}", ""
    if hasattr(error, "ename"):  # papermill's report of an exception in a cell
        text, where = f"{error.ename}: {error.evalue}", f" at In [{error.exec_count}]"
    return next(iter(text.strip().splitlines()), "") + where


def keep_off_network() -> None:
    """Where ``XAIKIT_OFFLINE`` is set, let every connection of Python's sockets to another machine fail with the reason, from
    the import of xaikit on. Programs that a cell starts are not watched."""
    if os.environ.get(OFFLINE) == "1":
        sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple) -> None:
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host is not None and host not in HERE:
        raise PermissionError(
            f"the network isn't used ({host}): models that a run's parameters name were fetched before its kernels began"
        )


def prepare(several: Iterable[Mapping[str, object]], here: bool = True) -> None:
    """Open the data that notebooks take, look for the device, and have whatever the hub holds of their models: weights,
    configurations, tokenizers. A kernel has no terminal to show a download in, keeps off the network, and starts slowly.

    several : for each notebook its parameters by name, with those left at their defaults. here : whether they are executed on
    this machine, and so on its devices. Raises LayoutError for data that
    can't be opened, and what ``load_clip`` and ``load_mllm`` do for a device or a model that isn't there, all names being
    looked up before the first is fetched.
    """
    several = list(several)
    for data in {values[name]: None for values in several for name in OF_DATA if values.get(name)}:
        if data.partition(":")[0] in known_layouts():
            open_source(data)
    for device in {values["device"]: None for values in several if here and values.get("device", "cpu") != "cpu"}:
        from ..clip.loading import checked_device

        checked_device(device)
    clips = {(values["model"], values.get("pretrained")): None for values in several if "model" in values}
    clips |= {(values["other"], None): None for values in several if "other" in values}
    clips = [choice for choice in clips if choice[0] not in CLIPS or choice[1] is not None]
    multimodal = {values["multimodal_model"]: None for values in several if "multimodal_model" in values}
    multimodal = [_whole(name) for name in multimodal if name not in MLLMS]
    for name, _ in clips:
        check_clip_name(name)
    for name in multimodal:
        mllm_folder(name)
    if clips:
        from ..clip.loading import check_clip
        from ..clip.setups import fetch_clip

        clips = [
            (_whole(name) if ":" in name else name, pretrained and _whole(pretrained)) for name, pretrained in clips
        ]
        for choice in clips:
            check_clip(*choice)
        for choice in clips:
            fetch_clip(*choice, tokenizer=True)
    if multimodal:
        from ..mllm.loading import fetch_mllm

        for name in multimodal:
            fetch_mllm(name)


def _whole(name: str) -> str:
    """What it is to a kernel, which works in the notebooks' folder: a default may name a file or folder from there."""
    return str(find_named(name, ("local-dir",), notebooks_folder()) or name)
