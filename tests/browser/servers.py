"""Jupyter servers on the loopback interface, with settings of their own, ended with all their kernels."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil

NO_NEWS = {"fetchNews": "false", "checkForUpdates": False}  # else JupyterLab asks, and looks for updates outside


class Server(NamedTuple):
    url: str
    token: str
    log: Path


@contextlib.contextmanager
def jupyterlab(folder, scratch, **environment):
    """JupyterLab on the notebooks of a folder. scratch : an empty folder for its settings and its log."""
    settings = scratch / "settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(NO_NEWS))
    port, token = _free_port(), secrets.token_hex(16)
    options = [
        "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    with _started("jupyterlab", options, scratch, port, environment) as log:
        yield Server(f"http://127.0.0.1:{port}", token, log)


@contextlib.contextmanager
def application(scratch, **environment):
    """The explorer alone, served by Voila."""
    port, token = _free_port(), secrets.token_hex(16)
    options = ["--no-browser", "--Voila.ip=127.0.0.1", f"--port={port}", f"--token={token}"]
    with _started("xaikit", ["app", "--", *options], scratch, port, environment) as log:
        yield Server(f"http://127.0.0.1:{port}", token, log)


@contextlib.contextmanager
def _started(module, options, scratch, port, environment, seconds=60):
    places = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython",
    }  # fmt: skip
    own = {name: str(scratch / place) for name, place in places.items()}
    log = scratch / "server.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", module, *options],
            env=os.environ | own | environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for(port, server, log, seconds)
        yield log
    finally:
        below = psutil.Process(server.pid).children(recursive=True) if server.poll() is None else []
        server.terminate()  # it ends its kernels, which have sessions of their own, before itself
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(60)
        _, left = psutil.wait_procs(below, 5)
        for process in (*left, server):
            process.kill()
        server.wait()
    assert not left, f"the server left processes behind: {left}"


def _wait_for(port, server, log, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the server didn't start:\n{log.read_text()[-3000:]}")


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
