"""The notebooks of a run reach no other machine unless a parameter names a model on a hub."""

import subprocess
import sys

import nbformat
import pytest

from xaikit.running.execution import OFFLINE, execute, names_hub_model, offline_variables

TRY = """
import socket
import xaikit
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except OSError as error:
    print(type(error).__name__)
try:
    socket.getaddrinfo("weights.invalid", 443)
except OSError as error:
    print(type(error).__name__)
"""


def printed(path):
    return "".join(o.get("text", "") for cell in nbformat.read(path, 4).cells for o in cell.get("outputs", []))


def test_a_kernel_keeps_off_the_network_unless_a_model_is_named(tmp_path, write_notebook):
    parameters = "run = 'default'  # the run\nmodel = 'tiny-clip'  # a model\npretrained = None  # weights, or None"
    hub = "import os\nprint(os.environ.get('HF_HUB_OFFLINE'))"
    notebook = write_notebook(tmp_path / "00_try.ipynb", parameters, TRY, hub)
    execute(notebook, tmp_path / "done.ipynb", {}, tmp_path)
    assert printed(tmp_path / "done.ipynb") == "PermissionError\nPermissionError\n1\n"
    execute(notebook, tmp_path / "named.ipynb", {"model": "ViT-B-32", "pretrained": "openai"}, tmp_path)
    first, second, offline_or_not = printed(tmp_path / "named.ipynb").split()
    assert "PermissionError" not in (first, second) and offline_or_not == "None"


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"model": "tiny-clip", "pretrained": None}, False),
        ({"model": "local-dir:some/folder"}, False),
        ({"model": "ViT-B-32", "pretrained": __file__}, False),
        ({"model": "ViT-B-32", "pretrained": None}, False),
        ({"multimodal_model": "tiny-llava"}, False),
        ({"n": 3}, False),
        ({"model": "hf-hub:owner/name"}, True),
        ({"model": "ViT-B-32", "pretrained": "openai"}, True),
        ({"multimodal_model": "llava-hf/llava-1.5-7b-hf"}, True),
    ],
)
def test_which_parameters_name_a_model_on_a_hub(parameters, named):
    assert names_hub_model(parameters) == named
    assert bool(offline_variables(parameters)) != named


def test_connections_on_this_machine_stay_possible():
    code = (
        "import socket, xaikit\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(server.getsockname(), timeout=5); socket.getaddrinfo('localhost', 1)\n"
        "try:\n    socket.create_connection(('192.0.2.1', 80), timeout=1)\n"
        "except PermissionError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={OFFLINE: "1"}, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("the network isn't used (192.0.2.1): no parameter of this run names a model on a hub")


def test_nothing_is_watched_where_it_was_not_asked_for():
    code = "import socket, xaikit\ntry:\n    socket.create_connection(('192.0.2.1', 80), timeout=0.2)\n"
    code += "except OSError as error:\n    print(type(error))"
    done = subprocess.run([sys.executable, "-c", code], env={}, capture_output=True, text=True, check=True)
    assert "PermissionError" not in done.stdout
