"""Fetching one file over HTTP so that an interrupted transfer goes on where it stopped.

Source: RFC 9110 (range requests). What was fetched is trusted only if its SHA-256 is known to be
right, so a file that changed on the server between two attempts does no harm.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from overclock.errors import SourceError
from overclock.model.origin import Progress

CHUNK: Final = 1 << 20
ATTEMPTS: Final = 4  # that bring nothing new, before giving up
TIMEOUT: Final = 60.0  # seconds without a byte


class TransferError(Exception):
    """The transfer failed for a reason other than this disk; the message says why."""


@dataclass(frozen=True, slots=True)
class Client:
    """How to reach servers: a CA bundle, a proxy for all URLs, seconds to wait for a byte."""

    certificates: str | None = None
    proxy: str | None = None
    timeout: float = TIMEOUT
    headers: dict[str, str] = field(default_factory=lambda: {"Accept-Encoding": "identity"})

    def open(self, url: str, start: int) -> http.client.HTTPResponse:
        """The response to a request for `url` from byte `start` on."""
        headers = self.headers | ({"Range": f"bytes={start}-"} if start else {})
        request = urllib.request.Request(url, headers=headers)
        proxies = {"http": self.proxy, "https": self.proxy} if self.proxy else None
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=self._tls())
        )
        response = opener.open(request, timeout=self.timeout)
        assert isinstance(response, http.client.HTTPResponse)
        return response

    def _tls(self) -> ssl.SSLContext:
        bundle = Path(self.certificates) if self.certificates else None
        if bundle and bundle.is_dir():
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)


def fetch(client: Client, url: str, part: Path, what: str, progress: Progress) -> None:
    """Bring `url` into the file `part`, going on from what is there already.

    Raises TransferError if the server does not give it, and OSError if the disk does not take it.
    """
    if urlsplit(url).scheme == "file":
        shutil.copyfile(unquote(urlsplit(url).path), part)
        return
    if urlsplit(url).scheme not in ("http", "https"):
        raise TransferError(f"{url} is no address that can be fetched from")
    failures = 0
    while True:
        before = _size(part)
        try:
            if _go_on(client, url, part, what, progress):
                return
            reason = "the connection broke"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ssl.SSLError) as e:
            reason = str(getattr(e, "reason", "") or e or type(e).__name__)
            if isinstance(e, urllib.error.HTTPError) and e.code < 500:
                raise TransferError(f"{url} cannot be fetched: {e.code} {reason}") from e
        failures = 0 if _size(part) > before else failures + 1
        if failures == ATTEMPTS:
            raise TransferError(f"{url} cannot be fetched: {reason}")


def _go_on(client: Client, url: str, part: Path, what: str, progress: Progress) -> bool:
    """One request; whether the file is complete after it."""
    start = _size(part)
    try:
        response = client.open(url, start)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        part.unlink()  # longer than the file on the server: not the beginning of it
        return False
    with response:
        goes_on = response.status == http.HTTPStatus.PARTIAL_CONTENT
        length = response.headers["Content-Length"]
        done = start if goes_on else 0
        total = done + int(length) if length and length.isdigit() else None
        with part.open("ab" if goes_on else "wb") as file:
            while chunk := _read(response):
                file.write(chunk)
                done += len(chunk)
                progress(what, done, total)
    return total is None or done >= total


def _read(response: http.client.HTTPResponse) -> bytes:
    """The next bytes; none at the end, or when the connection breaks."""
    try:
        return response.read1(CHUNK)
    except (http.client.HTTPException, ConnectionError, TimeoutError):
        return b""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def check_sha256(path: Path, expected: str | None, what: str) -> str:
    """The SHA-256 of the file `path`.

    Raises SourceError if it is not the `expected` one; the file is deleted then.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if expected is not None and found != expected.lower():
        path.unlink()
        raise SourceError(
            f"{what} has the SHA-256 {found}, but {expected} was expected; what came is not what "
            "was asked for, so it was deleted: try again, and do not trust that server if it stays"
        )
    return found
