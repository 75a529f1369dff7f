"""Writer of KITTI's label files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from gfocal.data.annotated import EVERY_CLASS
from gfocal.data.paths import is_image
from gfocal.data.sidecar import Sidecar
from gfocal.data.writers.decimals import format_decimal
from gfocal.data.writers.placement import Placement, check_names
from gfocal.data.writers.written_objects import Storage, WrittenObject, describe_losses, split_objects, to_sidecar
from gfocal.errors import DataError

IMAGES = ""  # in <split>/image_2/
INNER = "image_2"
LABELS = "label_2"
DONT_CARE = "DontCare"
STORAGE = Storage("KITTI", lambda box, size: box, stores_every_class=True)


def write_kitti(placement: Placement, folder: Path) -> tuple[Sidecar, list[str]]:
    """Write ``<split>/label_2/*.txt`` for images in ``<split>/image_2/``.

    Ignored regions of every class are ``DontCare``. The columns of the object in space have KITTI's values for
    "not known". Corners have the fewest digits that keep
    the float32. Returns what the files cannot store, and notes for the user. Raises DataError for class names with
    spaces, which end a column.
    """
    check_names(placement.names, "KITTI")
    for name in placement.names:
        if name.casefold() == DONT_CARE.casefold() or _is_number(name):
            raise DataError(f"class name {name!r}: KITTI cannot store it as a class; rename it with --rename")
    spaced = [name for name in placement.names if len(name.split()) > 1]
    if spaced:
        raise DataError(
            f"class name {spaced[0]!r}: KITTI cannot store spaces; rename it with --rename "
            f"'{spaced[0]}={'_'.join(spaced[0].split())}'"
        )
    splits = split_objects(placement, STORAGE)
    for split in splits:
        (folder / split.name / LABELS).mkdir(parents=True)
        for file, sample, objects in split.images:
            if not is_image(Path(file)):
                raise DataError(f"{sample.path}: KITTI finds images by their suffix, such as .png; rename the file")
            target = folder / split.name / LABELS / f"{PurePosixPath(file).stem}.txt"
            target.write_text("".join(map(_line, objects)), encoding="utf-8")
    return to_sidecar(placement, splits), describe_losses(STORAGE, splits)


def _line(one: WrittenObject) -> str:
    """Class, truncation, occlusion, angle, box, then size, place and angle of the object in space."""
    start = f"{DONT_CARE} -1 -1 -10" if one.name == EVERY_CLASS else f"{one.name} 0 0 -10"
    return f"{start} {' '.join(map(format_decimal, one.box))} -1 -1 -1 -1000 -1000 -1000 -10\n"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
