"""Downloading one file: resumed where it broke off, checked, and in place only when it is complete.

A file comes into ``NAME.part`` beside its place, with what a later request needs to resume in ``NAME.part.json``.
What cannot be resumed is removed. What a server says is untrusted: its lengths, ranges and the kind of its content
are compared with what arrives, and with what is known of the file.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gfocal.atomic import atomic_write
from gfocal.errors import DownloadError
from gfocal.text import one_line

TIMEOUT = 20.0  # seconds without a byte
MAX_BYTES = 2**32  # of a file
CHUNK = 2**18  # bytes
MAX_ATTEMPTS = 5  # of one call; each after the first must have brought something
SPARE = 2**24  # bytes that are to stay free on the disk
HTML = re.compile(rb"\s*(<!doctype\b|<html\b|<\?xml\b|<head\b|<body\b|<!--)", re.I)
UNITS = re.compile(r"bytes (\d+)-\d+/(\d+)")  # of Content-Range

Report = Callable[[int, "int | None"], None]  # bytes so far, bytes in all if known


class BrokenOffError(Exception):
    """A transfer that ended early; asked again, the server may continue it. Callers of ``download`` do not see it."""


@dataclass(frozen=True)
class Wanted:
    """What is known of a file before it is downloaded."""

    address: str
    digest: str | None = None
    """Kind of hash and first hexadecimal digits, ``sha256:25944287``."""
    num_bytes: int | None = None


@dataclass(frozen=True)
class Answer:
    """What a server says before the content."""

    start: int  # the first byte that comes
    total: int | None  # bytes of the whole file
    validator: str | None  # a name of this version of the file, for If-Range
    takes_ranges: bool


def download(wanted: Wanted, target: Path, report: Report | None = None, timeout: float = TIMEOUT) -> None:
    """Download a file to ``target``, whose folder exists; on return it is complete and its hash checked.

    Args:
        wanted: address, and what is known of the file.
        target: where it is to be. Nothing is there before the file is complete.
        report: called with the bytes so far and in all, while they arrive.
        timeout: seconds without a byte after which the server counts as stalled.

    Raises:
        DownloadError: the server cannot be reached, refuses, breaks off, stalls, sends something else than the file,
            or there is no space for it. The message is the reason alone. What can be resumed is kept for a next try.
    """
    part = part_of(target)
    for attempt in range(MAX_ATTEMPTS):
        before = _size(part)
        try:
            _transfer(wanted, part, report, timeout)
            break
        except BrokenOffError as error:
            if attempt + 1 == MAX_ATTEMPTS or _size(part) <= before:
                kept = f", {megabytes(_size(part))} of it are kept, and a second try resumes" if _size(part) else ""
                raise DownloadError(f"{error}{kept}") from error
        except OSError as error:
            raise DownloadError(f"cannot be written ({describe_write_error(error, part)})") from error
    if reason := find_mismatch(part, wanted):
        discard(part)
        raise DownloadError(f"{reason}, so what came was not kept")
    try:
        os.replace(part, target)
    except OSError as error:
        raise DownloadError(f"cannot be written ({describe_write_error(error, part)})") from error
    discard(part)


def part_of(target: Path) -> Path:
    """The file into which a file is downloaded."""
    return target.with_name(f"{target.name}.part")


def discard(part: Path) -> None:
    """Remove an incomplete file, and what is known of it."""
    part.unlink(missing_ok=True)
    _notes_of(part).unlink(missing_ok=True)


def find_mismatch(path: Path, wanted: Wanted) -> str | None:
    """Why a file is not the wanted one, by its size and hash; None if it is, as far as they are known."""
    if wanted.num_bytes is not None and _size(path) != wanted.num_bytes:
        return f"has {_size(path):,} bytes, the published file has {wanted.num_bytes:,}"
    if wanted.digest is None:
        return None
    kind, _, digits = wanted.digest.partition(":")
    found = hash_file(path, kind)
    if not found.startswith(digits):
        return f"its {kind} starts with {found[: len(digits)][:16]}, that of the published file with {digits[:16]}"
    return None


def hash_file(path: Path, kind: str = "sha256") -> str:
    """The hash of a file in hexadecimal digits."""
    digest = hashlib.new(kind)
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def megabytes(number: float) -> str:
    """A number of bytes, as ``35.5 MB``."""
    return f"{number / 1e6:.1f} MB"


def describe_write_error(error: OSError, path: Path) -> str:
    """Why a file could not be written, with the free space where that is the reason."""
    reason = one_line(error.strerror or str(error))
    try:
        free = f"; {megabytes(shutil.disk_usage(path.parent).free)} are free in {path.parent}"
    except OSError:
        free = ""
    return f"{reason}{free}"


def _transfer(wanted: Wanted, part: Path, report: Report | None, timeout: float) -> None:
    """One request; afterwards the part file has all that the server says the file has."""
    start, validator = _resumable(wanted, part)
    try:
        reply = _request(wanted.address, start, validator, timeout)
    except urllib.error.HTTPError as error:
        with closing(error):
            if error.code != 416 or start == 0:
                raise DownloadError(_describe_status(error)) from error
            # The server has no byte there: the part is the whole file, or of another one.
            if error.headers.get("Content-Range", "").strip() == f"bytes */{start}":
                return
        discard(part)
        return _transfer(wanted, part, report, timeout)
    except (OSError, http.client.HTTPException) as error:
        raise _lost(error, timeout) from error
    with closing(reply):
        answer = _read_answer(reply, start, wanted)
        if answer.start != start:  # the server ignores the range, and sends all
            discard(part)
        _check_space(part, answer)
        keep = answer.takes_ranges and (answer.validator is not None or wanted.digest is not None)
        if keep:
            _write_notes(part, wanted, answer)
        try:
            _receive(reply, part, answer, report, timeout)
        except DownloadError:
            discard(part)  # something else than the file
            raise
        except BaseException:
            if not keep or _size(part) == 0:
                discard(part)
            raise


def _receive(reply: Any, part: Path, answer: Answer, report: Report | None, timeout: float) -> None:
    """Append the content of a reply to the part file."""
    done = answer.start
    with part.open("ab" if done else "wb") as file:
        while True:
            try:
                chunk = reply.read1(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _lost(error, timeout, done, answer.total) from error
            if not chunk:
                break
            if done == 0 and HTML.match(chunk[:200]):
                raise DownloadError(_describe_page(chunk))
            file.write(chunk)
            done += len(chunk)
            if done > MAX_BYTES:
                raise DownloadError(f"the server sends more than {megabytes(MAX_BYTES)}")
            if report is not None:
                report(done, answer.total)
    if answer.total is not None and done < answer.total:
        raise _lost(None, timeout, done, answer.total)
    if done == 0:
        raise DownloadError("the server sent an empty file")


def _request(address: str, start: int, validator: str | None, timeout: float) -> Any:
    headers = {"User-Agent": "gfocal", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator is not None:
            headers["If-Range"] = validator
    opener = urllib.request.build_opener(_NoDowngrade(), urllib.request.HTTPSHandler(context=_certificates()))
    try:
        return opener.open(urllib.request.Request(address, headers=headers), timeout=timeout)
    except ValueError as error:
        raise DownloadError(f"no address on the web ({one_line(str(error))})") from error


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Redirections are followed, but not from https to plain http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise DownloadError(f"the server redirects to an address without encryption, {one_line(newurl)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@functools.cache
def _certificates() -> ssl.SSLContext:
    """The system's certificates, and those of certifi where it is installed: some Pythons have none."""
    context = ssl.create_default_context()
    try:
        import certifi

        context.load_verify_locations(certifi.where())
    except (ImportError, OSError):
        pass
    return context


def _read_answer(reply: Any, start: int, wanted: Wanted) -> Answer:
    """What the server says of the content that follows; DownloadError where that is not the file."""
    headers = reply.headers
    length = headers.get("Content-Length", "")
    total = int(length) if re.fullmatch(r"\d{1,18}", length) else None
    first = 0
    if reply.status == 206:
        found = UNITS.fullmatch(headers.get("Content-Range", "").strip())
        if found is None or int(found[1]) != start:
            raise DownloadError("the server sent another part of the file than was asked for")
        first, total = start, int(found[2])
    if headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise DownloadError(_describe_page(reply.read1(CHUNK)))
    if total is not None and wanted.num_bytes is not None and total != wanted.num_bytes:
        raise DownloadError(f"the server has {total:,} bytes, the published file has {wanted.num_bytes:,}")
    if total is not None and total > MAX_BYTES:
        raise DownloadError(f"the server has {megabytes(total)}, more than {megabytes(MAX_BYTES)}")
    tag = headers.get("ETag")
    validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
    takes_ranges = reply.status == 206 or headers.get("Accept-Ranges", "").strip().lower() == "bytes"
    return Answer(first, total, validator, takes_ranges)


def _check_space(part: Path, answer: Answer) -> None:
    """DownloadError before the transfer, where its end is known not to fit on the disk."""
    needed = (answer.total or 0) - answer.start
    free = shutil.disk_usage(part.parent).free
    if needed + SPARE > free:
        raise DownloadError(
            f"no space for it: {megabytes(needed)} are to come and {megabytes(SPARE)} to stay free, but "
            f"{megabytes(free)} are free in {part.parent}"
        )


def _resumable(wanted: Wanted, part: Path) -> tuple[int, str | None]:
    """Bytes of the part file that a request may resume after, and the version they are of; 0 removes it."""
    try:
        notes = json.loads(_notes_of(part).read_text(encoding="utf-8"))
        known, validator = notes["address"] == wanted.address, notes["validator"]
    except (OSError, ValueError, TypeError, KeyError):
        known, validator = False, None
    if not known or not _size(part) or (validator is None and wanted.digest is None):
        discard(part)
        return 0, None
    return _size(part), validator if isinstance(validator, str) and "\n" not in validator else None


def _write_notes(part: Path, wanted: Wanted, answer: Answer) -> None:
    with atomic_write(_notes_of(part)) as temporary:
        text = json.dumps({"address": wanted.address, "validator": answer.validator})
        temporary.write_text(text, encoding="utf-8")


def _notes_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _lost(error: Exception | None, timeout: float, done: int = 0, total: int | None = None) -> Exception:
    """The error of a connection that failed, before (DownloadError) or during the transfer (BrokenOffError)."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        text = f"the server sent nothing for {timeout:g} seconds"
    elif done or error is None:
        text = "the connection broke off"
    else:
        return DownloadError(f"cannot be reached ({one_line(str(reason) or type(reason).__name__)})")
    of_all = f" of {megabytes(total)}" if total else ""
    return BrokenOffError(f"{text} after {megabytes(done)}{of_all}" if done else text)


def _describe_status(error: urllib.error.HTTPError) -> str:
    where = "" if error.url is None else f" at {one_line(error.url)}"
    return f"the server answers {error.code} {one_line(str(error.reason))}{where}"


def _describe_page(start: bytes) -> str:
    found = re.search(rb"<title[^>]*>\s*([^<]{1,200}?)\s*</title", start, re.I)
    title = f" ({one_line(found[1].decode('utf-8', 'replace'))!r})" if found else ""
    return (
        f"a web page came instead of the file{title}: the login page of a network, the notice of a proxy, or a "
        "question of the server"
    )
