"""A model hub on this machine, with the layouts of repositories as they are published, and faults that tests set."""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import unquote, urlsplit

LARGE = 100_000  # bytes from which a file stands at another address, as large ones do
CUT = 40_000  # bytes after which a download is cut
GATED = "Access to model is restricted. Please log in."


class Hub(ThreadingHTTPServer):
    """``root`` holds a folder OWNER/NAME for each repository. ``fault`` is a pattern of "METHOD /path" and what happens there:
    a status, "gated", "cut", "silent" or "portal"; ``seen`` lists what was asked for, with the range if one was."""

    daemon_threads = True

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.root, self.fault, self.seen = root, ("", None), []
        self.address = f"http://127.0.0.1:{self.server_port}"
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, *about):
        """A client that hung up is what some tests are about."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *about):
        pass

    def do_GET(self):
        path, hub = unquote(urlsplit(self.path).path), self.server
        hub.seen.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        pattern, fault = hub.fault
        fault = fault if fault and re.search(pattern, f"{self.command} {path}") else None
        if fault == "silent":
            Event().wait(60)
        elif fault == "portal":
            self._say(200, b"<html>please log in to the network</html>")
        elif fault == "gated":
            self._say(401, b"", **{"X-Error-Code": "GatedRepo", "X-Error-Message": GATED})
        elif isinstance(fault, int):
            self._say(fault, b"<html>out of order</html>")
        elif found := re.fullmatch(r"/api/models/(.+?)(?:/revision/[^/]+)?", path):
            self._list(found[1])
        elif found := re.fullmatch(r"/(cdn/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._send(*found.groups(), cut=fault == "cut")
        else:
            self._say(404, b"")

    do_HEAD = do_GET

    def _list(self, repository):
        folder = self.server.root / repository
        if not folder.is_dir():
            return self._say(401, b"", **{"X-Error-Code": "RepoNotFound"})
        names = [{"rfilename": path.name} for path in sorted(folder.iterdir())]
        known = {"_id": "1", "id": repository, "modelId": repository, "sha": _commit(repository), "siblings": names}
        self._say(200, json.dumps(known | {"private": False, "tags": [], "downloads": 0, "likes": 0}).encode())

    def _send(self, elsewhere, repository, revision, name, cut):
        path, commit = self.server.root / repository / name, {"X-Repo-Commit": _commit(repository)}
        if not path.parent.is_dir():
            return self._say(401, b"", **{"X-Error-Code": "RepoNotFound"})
        if not path.is_file():
            return self._say(404, b"", **commit, **{"X-Error-Code": "EntryNotFound"})
        held, etag = path.read_bytes(), f'"{hashlib.sha256(path.read_bytes()).hexdigest()}"'
        if len(held) > LARGE and not elsewhere:
            linked = {"X-Linked-ETag": etag, "X-Linked-Size": str(len(held))}
            return self._say(302, b"", **commit, **linked, Location=f"{self.server.address}/cdn{self.path}")
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or (0, 0))[1])
        ranged = {"Content-Range": f"bytes {start}-{len(held) - 1}/{len(held)}"} if start else {}
        self._say(206 if start else 200, held[start:], cut, **commit, **ranged, ETag=etag)

    def _say(self, status, body, cut=False, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:CUT] if cut else body)
            self.close_connection = self.close_connection or cut


def _commit(repository):
    return hashlib.sha1(repository.encode()).hexdigest()
