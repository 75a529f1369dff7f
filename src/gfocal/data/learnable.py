"""Training pictures that hold an object to learn."""

from __future__ import annotations

from gfocal.data.samples import DataError, FileData, ImageData
from gfocal.data.validation import summary
from gfocal.words import counted


def with_objects(data: ImageData) -> ImageData:
    """The pictures of a data set that hold objects to learn from; drawn data as they are."""
    if not isinstance(data, FileData):
        return data
    return data.select(data.table.with_objects())


def check_objects(data: ImageData, data_name: str = "") -> None:
    """DataError for training pictures of which none holds an object, with what became of their boxes."""
    if not isinstance(data, FileData) or len(data.table.with_objects()):
        return
    where = f"{data_name}: " if data_name else ""
    lost = summary([problem for problem in data.problems if problem.action == "dropped"])
    reason = f" ({lost[0]})" if lost else ""
    raise DataError(
        f"{where}none of {counted(len(data), 'training picture')} holds an object to learn{reason}; "
        "give data with boxes"
    )
