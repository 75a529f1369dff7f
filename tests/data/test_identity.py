"""Digests by which an image is known again."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from calibrations import Annotated
from gfocal.data.identity import PART, digest_image, digest_images
from gfocal.data.synthetic.scenes import SyntheticScenes


def test_a_copy_has_the_digest_of_the_file(tmp_path: Path):
    Image.effect_noise((200, 150), 50).save(tmp_path / "a.png")
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "a.png", tmp_path / "other" / "b.dat")
    digest = digest_image(tmp_path / "a.png")
    assert digest == digest_image(tmp_path / "other" / "b.dat")
    assert digest is not None
    assert len(digest) == 16


def test_files_that_differ_at_the_start_the_end_or_in_length(tmp_path: Path):
    content = bytes(range(256)) * 100
    several = [content, b"x" + content[1:], content[:-1] + b"x", content + content[-PART:], content[:10], b""]
    for i, one in enumerate(several):
        (tmp_path / str(i)).write_bytes(one)
    digests = [digest_image(tmp_path / str(i)) for i in range(len(several))]
    assert len(set(digests)) == len(several)


def test_what_cannot_be_read_has_none(tmp_path: Path):
    assert digest_image(tmp_path / "nowhere.jpg") is None
    assert digest_image(tmp_path) is None
    assert digest_images(SyntheticScenes(3, size=96)) == [None] * 3
    assert digest_images(Annotated(())) == []
