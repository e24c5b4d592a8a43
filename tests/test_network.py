"""The notebooks of a run reach no other machine: models on a hub are fetched before (test_hub)."""

import subprocess
import sys

from notebook_functions import printed

from xaikit.running.execution import OFFLINE, execute

OUTSIDE = """
import socket
import xaikit
for reach, *where in ((socket.create_connection, ("192.0.2.1", 80), 0.5), (socket.getaddrinfo, "weights.invalid", 443)):
    try:
        reach(*where)
    except OSError as error:
        print(type(error).__name__, error)
"""
HERE = """
import socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname(), timeout=5)
socket.getaddrinfo("localhost", 1)
"""


def test_a_kernel_keeps_off_the_network_whatever_is_named(tmp_path, write_notebook):
    parameters = "run = 'default'  # the run\nmodel = 'tiny-clip'  # a model\npretrained = None  # weights, or None"
    hub = "import os\nprint(os.environ.get('HF_HUB_OFFLINE'))"
    notebook = write_notebook(tmp_path / "00_try.ipynb", parameters, OUTSIDE, hub)
    execute(notebook, tmp_path / "named.ipynb", {"model": "ViT-B-32", "pretrained": "openai"}, tmp_path)
    first, second, offline = "".join(printed(tmp_path / "named.ipynb")).splitlines()
    assert first.startswith("PermissionError") and second.startswith("PermissionError") and offline == "1"


def said(code, **environment):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_connections_on_this_machine_stay_possible():
    refused = (
        "PermissionError the network isn't used (192.0.2.1): models that a run's parameters name were fetched before"
    )
    assert said(OUTSIDE + HERE, **{OFFLINE: "1"}).startswith(refused)


def test_nothing_is_watched_where_it_was_not_asked_for():
    assert "PermissionError" not in said(OUTSIDE)
