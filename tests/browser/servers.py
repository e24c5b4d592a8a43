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
    process: subprocess.Popen

    def ready(self, seconds=60):
        """Wait until it answers."""
        port, until = int(self.url.rsplit(":", 1)[1]), time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.1)
        raise RuntimeError(f"the server didn't start:\n{self.log.read_text()[-3000:]}")


def jupyterlab(folder, scratch, **environment):
    """JupyterLab on the notebooks of a folder. scratch : an empty folder for its settings and its log."""
    settings = scratch / "settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(NO_NEWS))
    options = [
        "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port={port}", "--ServerApp.port_retries=0",
        "--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    return _started("jupyterlab", options, scratch, environment)


def application(scratch, **environment):
    """The explorer alone, served by Voila."""
    options = ["app", "--", "--no-browser", "--Voila.ip=127.0.0.1", "--port={port}", "--token={token}"]
    return _started("xaikit", options, scratch, environment)


@contextlib.contextmanager
def _started(module, options, scratch, environment):
    """A server that is starting: several can do so at once."""
    places = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython",
    }  # fmt: skip
    own = {name: str(scratch / place) for name, place in places.items()}
    port, token, log = _free_port(), secrets.token_hex(16), scratch / "server.log"
    command = [sys.executable, "-m", module, *(option.format(port=port, token=token) for option in options)]
    with log.open("wb") as out:
        about = {"env": os.environ | own | environment, "stdout": out, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, start_new_session=True, **about)
    try:
        yield Server(f"http://127.0.0.1:{port}", token, log, process)
    finally:
        below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()  # it ends its kernels, which have sessions of their own, before itself
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        _, left = psutil.wait_procs(below, 5)
        for each in (*left, process):
            each.kill()
        process.wait()
    assert not left, f"the server left processes behind: {left}"


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
