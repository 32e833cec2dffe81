"""Servers for tests, on a real socket: a package index (PEP 503, 658) and a model hub."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

CHUNK = 1 << 15


@dataclass
class Reply:
    """What a path gives: a body of a type, with headers; ranges of it if it may be resumed."""

    body: bytes = b""
    type: str = "application/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    ranges: bool = True


@dataclass
class Site:
    """Paths and replies, what was asked for, and how the server misbehaves."""

    pages: dict[str, Reply] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range
    sent: int = 0  # bytes of bodies of files
    cut_after: list[int] = field(default_factory=list)  # bytes of the next file replies
    refused_agents: str = "$^"  # user agents that get 403 for files
    url: str = ""

    def asked(self, method: str, ending: str) -> list[str]:
        """The ranges of the requests for paths with this ending."""
        return [r for m, path, r in self.requests if m == method and path.endswith(ending)]


class _Handler(BaseHTTPRequestHandler):
    site: ClassVar[Site]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        wanted = self.headers.get("Range", "")
        self.site.requests.append((self.command, path, wanted))
        reply = self.site.pages.get(path, Reply(b"not here", "text/plain", status=404))
        is_file = reply.type == "application/octet-stream" and reply.status == 200
        if is_file and re.search(self.site.refused_agents, self.headers.get("User-Agent", "")):
            reply, is_file = Reply(b"no", "text/plain", status=403), False
        start, stop = _range(wanted, len(reply.body)) if reply.ranges else (0, len(reply.body))
        if start > 0 and start >= len(reply.body):
            reply, start, stop = Reply(b"", status=416), 0, 0
        self._head(reply, start, stop, partial=reply.ranges and bool(wanted))
        if with_body:
            self._body(reply.body[start:stop], is_file)

    def _head(self, reply: Reply, start: int, stop: int, *, partial: bool) -> None:
        self.send_response(206 if partial and reply.status == 200 else reply.status)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(reply.body)}")
        self.send_header("Content-Type", reply.type)
        self.send_header("Content-Length", str(stop - start))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, body: bytes, is_file: bool) -> None:
        cut = self.site.cut_after.pop(0) if is_file and self.site.cut_after else len(body)
        try:
            for start in range(0, min(cut, len(body)), CHUNK):
                chunk = body[start : min(start + CHUNK, cut)]
                self.wfile.write(chunk)
                self.site.sent += len(chunk) if is_file else 0
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        if cut < len(body):
            self.close_connection = True


def _range(header: str, size: int) -> tuple[int, int]:
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", header)
    if found is None:
        return 0, size
    return int(found[1]), min(size, int(found[2]) + 1) if found[2] else size


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve `site` at a free port of this computer; its `url` says where."""
    handler = type("Handler", (_Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def add_wheel(
    site: Site,
    package: str,
    version: str,
    data: bytes,
    *,
    metadata: bytes | None = None,
    announced: str | None = "",
) -> str:
    """Offer a wheel in the index; its file name.

    `announced`: its SHA-256 in the index, None for none, empty for the right one.
    """
    name = f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
    digest = hashlib.sha256(data).hexdigest() if announced == "" else announced
    pin = f"#sha256={digest}" if digest else ""
    offered = ""
    if metadata is not None:
        offered = f' data-core-metadata="sha256={hashlib.sha256(metadata).hexdigest()}"'
        site.pages[f"/files/{name}.metadata"] = Reply(metadata, "text/plain")
    link = (
        f'<!DOCTYPE html><html><body><a href="/files/{name}{pin}"{offered}>{name}</a></body></html>'
    )
    site.pages[f"/simple/{package}/"] = Reply(link.encode(), "text/html")
    site.pages[f"/files/{name}"] = Reply(data)
    return name


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def add_repository(
    site: Site, name: str, files: Mapping[str, bytes], revision: str = "main", commit: str = COMMIT
) -> None:
    """Offer a model repository; safetensors and GGUF files lie elsewhere, as large files do."""
    siblings = [{"rfilename": path} for path in files]
    info = {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "private": False}
    info |= {"tags": [], "downloads": 0, "likes": 0}
    page = Reply(json.dumps(info).encode(), "application/json")
    for path in ("", f"/revision/{revision}", f"/revision/{commit}"):
        site.pages[f"/api/models/{name}{path}"] = page
    tree = [_leaf(path, data) for path, data in files.items()]
    for at in (revision, commit):
        listing = Reply(json.dumps(tree).encode(), "application/json")
        site.pages[f"/api/models/{name}/tree/{at}"] = listing
        for path, data in files.items():
            _add_file(site, f"/{name}/resolve/{at}/{path}", data, commit, large=_is_large(path))


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".gguf"))


def _leaf(path: str, data: bytes) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    leaf: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": digest[:40]}
    if _is_large(path):
        leaf["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
    return leaf


def _add_file(site: Site, path: str, data: bytes, commit: str, *, large: bool) -> None:
    digest = hashlib.sha256(data).hexdigest()
    if not large:
        headers = {"ETag": f'"{digest[:40]}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        site.pages[path] = Reply(data, headers=headers)
        return
    site.pages[f"/elsewhere/{digest}"] = Reply(data, headers={"ETag": f'"{digest}"'})
    elsewhere = site.url.replace("127.0.0.1", "localhost")  # the client must see another host
    headers = {
        "X-Repo-Commit": commit,
        "X-Linked-Etag": f'"{digest}"',
        "X-Linked-Size": str(len(data)),
        "Location": f"{elsewhere}/elsewhere/{digest}",
    }
    site.pages[path] = Reply(b"", "text/plain", headers, status=302)
