"""Downloads from a server that breaks off, stalls, lies or sends something else."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weights_server import WeightsServer, serve

from gfocal.errors import DownloadError
from gfocal.interop import download as module
from gfocal.interop.download import Wanted, download, find_mismatch, part_of

CONTENT = bytes(range(256)) * 1200  # 307,200 bytes
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()[:8]}"


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    with serve(CONTENT) as running:
        yield running


def fetch(server: WeightsServer, folder: Path, digest: str | None = DIGEST, **known: Any) -> Path:
    """Download to ``folder``, with a time limit of half a second."""
    target = folder / "weights.pth"
    download(Wanted(f"{server.address}/a/weights.pth", digest, **known), target, timeout=0.5)
    return target


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("behavior", ["good", "redirect", "chunked", "no ranges", "ignores ranges"])
@pytest.mark.parametrize("digest", [DIGEST, None, f"sha384:{hashlib.sha384(CONTENT).hexdigest()}"])
def test_a_file_arrives_whole_and_leaves_nothing_beside_it(
    server: WeightsServer, tmp_path: Path, behavior: str, digest: str | None
):
    server.behavior = behavior
    assert fetch(server, tmp_path, digest).read_bytes() == CONTENT
    assert names(tmp_path) == ["weights.pth"]


def test_progress_is_reported(server: WeightsServer, tmp_path: Path):
    seen: list[tuple[int, int | None]] = []
    download(Wanted(f"{server.address}/x"), tmp_path / "x", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


def test_a_transfer_that_breaks_off_continues_by_itself(server: WeightsServer, tmp_path: Path):
    server.behavior, server.piece = "break", 100_000
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == ["", "bytes=100000-", "bytes=200000-", "bytes=300000-"]
    assert names(tmp_path) == ["weights.pth"]


def test_one_that_breaks_off_again_and_again_is_resumed_by_a_second_try(server: WeightsServer, tmp_path: Path):
    server.behavior, server.piece = "break", 30_000
    with pytest.raises(DownloadError, match=r"broke off after 0\.1 MB of 0\.3 MB, 0\.1 MB .*second try resumes"):
        fetch(server, tmp_path)
    assert names(tmp_path) == ["weights.pth.part", "weights.pth.part.json"]
    assert part_of(tmp_path / "weights.pth").read_bytes() == CONTENT[:150_000]
    server.behavior = "good"
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=150000-"
    assert names(tmp_path) == ["weights.pth"]


def test_a_server_without_ranges_leaves_nothing_to_resume(server: WeightsServer, tmp_path: Path):
    server.behavior = "break without ranges"
    with pytest.raises(DownloadError, match="broke off"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []
    server.behavior = "good"
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_server_that_ignores_the_range_is_read_from_the_start(server: WeightsServer, tmp_path: Path):
    server.behavior, server.piece = "break", 30_000
    with pytest.raises(DownloadError):
        fetch(server, tmp_path)
    server.behavior = "ignores ranges"
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=150000-"


@pytest.mark.parametrize(("behavior", "piece"), [("stall", 10), ("silent", 0)])
def test_a_stalled_server_ends_in_an_error(server: WeightsServer, tmp_path: Path, behavior: str, piece: int):
    server.behavior, server.piece, server.stall = behavior, piece, 2.0
    with pytest.raises(DownloadError, match=r"sent nothing for 0\.2 seconds"):
        download(Wanted(server.address, DIGEST), tmp_path / "x", timeout=0.2)
    server.behavior = "good"
    download(Wanted(server.address, DIGEST), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("behavior", "reason"),
    [
        ("404", r"answers 404 Not Found at http://127\.0\.0\.1"),
        ("403", "answers 403"),
        ("503", "answers 503"),
        ("login", r"a web page came instead of the file \('Sign in to the network'\)"),
        ("drive", r"a web page came instead of the file \('Google Drive - Virus scan warning'\)"),
        ("empty", "empty file"),
        ("416", "answers 416"),
        ("other", r"its sha256 starts with [0-9a-f]{8}, that of the published file with [0-9a-f]{8}"),
        ("shorter", "its sha256 starts with"),
    ],
)
def test_something_else_than_the_file_is_not_kept(server: WeightsServer, tmp_path: Path, behavior: str, reason: str):
    server.behavior = behavior
    with pytest.raises(DownloadError, match=reason):
        fetch(server, tmp_path)
    assert names(tmp_path) == []
    server.behavior = "good"
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_length_that_is_too_large_is_found_out(server: WeightsServer, tmp_path: Path):
    server.behavior = "longer"
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == ["", "bytes=307200-"]  # the server has nothing after it


def test_a_part_of_another_file_is_not_continued(server: WeightsServer, tmp_path: Path):
    server.behavior, server.piece = "break", 30_000
    with pytest.raises(DownloadError):
        fetch(server, tmp_path)
    notes = tmp_path / "weights.pth.part.json"
    notes.write_text(json.dumps(json.loads(notes.read_text()) | {"address": "http://elsewhere/weights.pth"}))
    server.behavior = "good"
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] == ""


def test_a_part_longer_than_the_file_starts_over(server: WeightsServer, tmp_path: Path):
    server.behavior, server.piece = "break", 30_000
    with pytest.raises(DownloadError):
        fetch(server, tmp_path)
    with part_of(tmp_path / "weights.pth").open("ab") as file:
        file.write(bytes(len(CONTENT)))
    server.behavior = "good"
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests[-2:]] == [f"bytes={150_000 + len(CONTENT)}-", ""]


def test_a_damaged_part_is_found_by_the_hash_and_a_second_try_succeeds(server: WeightsServer, tmp_path: Path):
    server.behavior, server.piece = "break", 30_000
    with pytest.raises(DownloadError):
        fetch(server, tmp_path)
    part = part_of(tmp_path / "weights.pth")
    part.write_bytes(bytes(part.stat().st_size))
    server.behavior = "good"
    with pytest.raises(DownloadError, match="not kept"):
        fetch(server, tmp_path)
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_reply_with_another_range_is_refused(server: WeightsServer, tmp_path: Path):
    server.behavior, server.piece = "break", 30_000
    with pytest.raises(DownloadError):
        fetch(server, tmp_path)
    server.behavior = "wrong range"
    with pytest.raises(DownloadError, match="another part of the file"):
        fetch(server, tmp_path)


def test_a_known_size_is_compared_before_the_transfer(server: WeightsServer, tmp_path: Path):
    with pytest.raises(DownloadError, match=r"the server has 307,200 bytes, the published file has 1,000"):
        fetch(server, tmp_path, num_bytes=1000)
    assert names(tmp_path) == []


def test_no_server(tmp_path: Path):
    with serve(CONTENT) as gone:
        pass
    with pytest.raises(DownloadError, match=r"cannot be reached \(.*refused"):
        fetch(gone, tmp_path)
    with pytest.raises(DownloadError, match="cannot be reached"):
        download(Wanted("http://no-such-host.invalid/x"), tmp_path / "x")


def test_a_disk_that_is_known_to_be_too_small(server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 200_000))
    with pytest.raises(DownloadError, match=r"no space for it: 0\.3 MB are to come .* 0\.2 MB are free in /"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_keeps_what_it_has(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    server.behavior, server.piece = "break", 100_000
    real = Path.open

    def full(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if mode == "ab":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, mode, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(DownloadError, match=r"cannot be written \(No space left on device; .* MB are free in /"):
            fetch(server, tmp_path)
    assert part_of(tmp_path / "weights.pth").read_bytes() == CONTENT[:100_000]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_an_interruption_keeps_what_can_be_resumed(server: WeightsServer, tmp_path: Path):
    def interrupt(done: int, total: int | None) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    wanted = Wanted(f"{server.address}/a/weights.pth", DIGEST)
    with pytest.raises(KeyboardInterrupt):
        download(wanted, tmp_path / "weights.pth", interrupt)
    assert names(tmp_path) == ["weights.pth.part", "weights.pth.part.json"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1].startswith("bytes=")


def test_encryption_is_not_given_up_on_the_way(monkeypatch: pytest.MonkeyPatch):
    import urllib.request

    handler = module._NoDowngrade()
    request = urllib.request.Request("https://good.example/x")
    with pytest.raises(DownloadError, match="without encryption, http://bad"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://bad.example/x")
    assert handler.redirect_request(request, None, 302, "Found", {}, "https://good.example/y") is not None


def test_an_address_of_another_kind_is_refused(tmp_path: Path):
    with pytest.raises(DownloadError, match="address"):
        download(Wanted("no address"), tmp_path / "x")


def test_a_mismatch_says_what_differs(tmp_path: Path):
    file = tmp_path / "x"
    file.write_bytes(CONTENT)
    assert find_mismatch(file, Wanted("", DIGEST, len(CONTENT))) is None
    assert find_mismatch(file, Wanted("")) is None
    assert find_mismatch(file, Wanted("", None, 7)) == "has 307,200 bytes, the published file has 7"


@settings(max_examples=25)
@given(pieces=st.lists(st.integers(0, 120_000), max_size=4), behavior=st.sampled_from(["break", "stall"]))
def test_however_often_it_breaks_the_file_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[int], behavior: str
):
    target = tmp_path_factory.mktemp("download") / "x"
    with serve(CONTENT, behavior) as server:
        server.stall = 0.0  # the connection is closed at once
        for server.piece in pieces:
            with contextlib.suppress(DownloadError):
                download(Wanted(server.address, DIGEST), target)
            assert not target.exists() or target.read_bytes() == CONTENT
        server.behavior = "good"
        download(Wanted(server.address, DIGEST), target)
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["x"]
