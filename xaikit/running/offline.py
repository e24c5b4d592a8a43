"""The notebooks of a run use the network only if a parameter names a model on a hub."""

import os
import sys
from collections.abc import Mapping

from ..files.paths import data_folder, notebooks_folder

VARIABLE = "XAIKIT_OFFLINE"
HERE = {"localhost", "127.0.0.1", "::1", "", "0.0.0.0"}


def names_hub_model(parameters: Mapping[str, object]) -> bool:
    """Whether the parameters of a notebook name a model that has to be fetched: ``hf-hub:OWNER/NAME``, weights by a tag of
    open_clip, or a multimodal model that is no folder here."""
    if any(str(value).startswith("hf-hub:") for value in parameters.values()):
        return True
    weights, multimodal = parameters.get("pretrained"), parameters.get("multimodal_model")
    if weights is not None and not (notebooks_folder() / str(weights)).is_file():
        return True
    folders = (notebooks_folder(), data_folder())  # where a kernel looks for it
    return multimodal is not None and not any((folder / str(multimodal)).is_dir() for folder in folders)


def environment(parameters: Mapping[str, object]) -> dict[str, str]:
    """The variables with which a notebook's kernel keeps off the network, none if its parameters name a hub model."""
    if names_hub_model(parameters):
        return {}
    return {VARIABLE: "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def keep_off_network() -> None:
    """Where ``XAIKIT_OFFLINE`` is set, let every connection of Python's sockets to another machine fail with the reason, from
    the import of xaikit on. Programs that a cell starts are not watched."""
    if os.environ.get(VARIABLE) == "1":
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
            f"the network isn't used ({host}): no parameter of this run names a model on a hub, such as pretrained='openai'"
        )
