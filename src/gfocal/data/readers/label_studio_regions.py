"""Regions of Label Studio: the results of an annotation that belong together, with their labels and choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gfocal.data.readers.reading import to_number

WHOLE_IMAGE = "choices"  # type of what is said of the whole image
# Text and numbers about a region or an image, which no detector learns; relations between regions.
_REMARKS = ("textarea", "rating", "number", "datetime", "taxonomy", "pairwise", "relation")
_SHAPES = ("rectangle", "polygon", "ellipse", "keypoint")


@dataclass
class Region:
    """Something that was drawn, or chosen for the whole image."""

    record: str  # where it is, for problems
    type: str = ""  # of the result that has the geometry: rectanglelabels, polygon, ...
    value: dict[str, Any] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None  # stated height and width of the image
    turned: float = 0.0  # of the whole image in the tool, degrees
    page: int = 0  # of a list of images
    target: str = ""  # name of the tag of the image


def join_regions(results: Sequence[Any]) -> list[Region]:
    """The regions of an annotation.

    Geometry, labels and choices of a region are results of the same id, where the interface has separate tags.
    """
    regions: dict[str, Region] = {}
    for number, result in enumerate(results, 1):
        kind = str(result.get("type", "")) if isinstance(result, dict) else "broken"
        if kind in _REMARKS:
            continue
        result = result if isinstance(result, dict) else {}
        value = result.get("value")
        value = value if isinstance(value, dict) else {}
        key = str(result.get("id") or f"#{number}")
        known = regions.get(key)
        if (
            known is not None
            and known.type.startswith(_SHAPES)
            and _geometry(value) not in ({}, _geometry(known.value))
        ):
            key = f"{key}, #{number}"  # another shape of the same id
        region = regions.setdefault(key, Region(f"result {number}"))
        if kind == WHOLE_IMAGE:
            region.choices += _texts(value.get("choices"))
            region.type = region.type or kind
            continue
        region.labels += [name for name in _labels(kind, value) if name not in region.labels]
        if region.type in ("", WHOLE_IMAGE, "labels"):  # labels repeat the geometry of their region
            region.type, region.value = kind, value
        _add_image(region, result)
    for region in regions.values():
        if region.type == "labels":
            region.type = "rectangle" if "width" in region.value else "polygon" if "points" in region.value else ""
    return list(regions.values())


def _geometry(value: dict[str, Any]) -> dict[str, Any]:
    """What a result states of where its region is."""
    return {key: value[key] for key in ("x", "y", "width", "height", "radiusX", "radiusY", "points") if key in value}


def _add_image(region: Region, result: dict[str, Any]) -> None:
    """What a result states about its image."""
    if region.size is None:
        height, width = to_number(result.get("original_height")), to_number(result.get("original_width"))
        region.size = (int(height), int(width)) if 1 <= height < 1e9 and 1 <= width < 1e9 else None
    if "rotation" in result:  # converters of other projects write it here
        region.value = {"rotation": result["rotation"], **region.value}
    if result.get("image_rotation"):
        region.turned = to_number(result["image_rotation"]) % 360
    page = result.get("item_index", 0)
    region.page = page if isinstance(page, int) else 0
    region.target = str(result.get("to_name", ""))


def _labels(kind: str, value: dict[str, Any]) -> list[str]:
    return _texts(value.get(kind)) or next((_texts(value[key]) for key in value if key.endswith("labels")), [])


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [one.strip() for one in values if isinstance(one, str) and one.strip()]
