"""The files for COCO's test-dev server."""

import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from gfocal.data.coco_names import COCO_NAMES
from gfocal.errors import DataError
from gfocal.inference.coco_submission import RESULTS, write_submission
from gfocal.models.zoo import gfl_r18_fpn


@pytest.fixture
def info(tmp_path: Path) -> Path:
    """Two images, the second of which is missing, and COCO's classes with ids of their own."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (60, 40), "red").save(tmp_path / "images" / "a.jpg")
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        "categories": [{"id": 2 * i + 1, "name": name} for i, name in enumerate(COCO_NAMES)],
    }
    path = tmp_path / "info.json"
    path.write_text(json.dumps(content))
    return path


def small(names: tuple[str, ...]):
    model = gfl_r18_fpn(len(names), names=names, pretrained=False, channels=32, num_convs=1)
    model.input_settings = type(model.input_settings)(short_side=64, long_side=96)
    model.decode_settings = type(model.decode_settings)(score_threshold=0.0)
    return model


def test_json_and_zip_of_the_servers_layout(info: Path, tmp_path: Path):
    out = tmp_path / "out"
    failed = write_submission(small(COCO_NAMES), info, [str(tmp_path / "images")], out, Console(quiet=True))
    assert failed == 1
    records = json.loads((out / f"{RESULTS}.json").read_text())
    assert records
    assert set(records[0]) == {"image_id", "category_id", "bbox", "score"}
    assert {r["image_id"] for r in records} == {7}
    assert all(r["category_id"] % 2 for r in records)
    with zipfile.ZipFile(out / f"{RESULTS}.zip") as archive:
        assert archive.namelist() == [f"{RESULTS}.json"]
        assert json.loads(archive.read(f"{RESULTS}.json")) == records


def test_other_classes_and_other_files_are_refused(info: Path, tmp_path: Path):
    images, quiet = [str(tmp_path / "images")], Console(quiet=True)
    with pytest.raises(DataError, match="no class 'owl'"):
        write_submission(small(("cat", "owl")), info, images, tmp_path / "o", quiet)
    (tmp_path / "no.json").write_text("[]")
    with pytest.raises(DataError, match="not an image info file"):
        write_submission(small(COCO_NAMES), tmp_path / "no.json", images, tmp_path / "o", quiet)
    with pytest.raises(DataError, match="one folder"):
        write_submission(small(COCO_NAMES), info, [*images, "x"], tmp_path / "o", quiet)


def test_no_zip_of_nothing(info: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    elsewhere, out = str(tmp_path / "elsewhere"), tmp_path / "out"
    with pytest.raises(DataError, match=r"none of the 2 images that .* so no zip was written; name the folder"):
        write_submission(small(COCO_NAMES), info, [elsewhere], out, Console(quiet=True))
    assert not out.exists()
