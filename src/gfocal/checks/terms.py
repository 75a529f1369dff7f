"""The words of findings that not everybody knows, each in one short clause, for terminals and pages."""

from __future__ import annotations

TERMS: dict[str, str] = {
    "split": "a part of the dataset: train to learn from, val to choose the best epoch, test for the final number",
    "near-duplicate": "the same view with another compression, size, brightness or focus, like two frames of a video",
    "crowd": "a region of many objects, or a box marked difficult: neither object nor background, so it is ignored",
    "IoU": "overlap of two boxes, the area they share divided by the area they cover together: 1 if they are equal",
    "EXIF orientation": "a note of the camera in the file on which side is up",
    "input": "the image as the network sees it, resized to the sizes of the config",
    "point": "a place of the network's grids; each is trained to find at most one box",
    "stride": "distance of neighboring points of a grid in pixels of the input; wide ones find large boxes",
    "unassigned": "a box without a point of its own to learn it by, as it is small, flat or covered by others",
    "regression range": "the farthest that an edge can be from the point of its box: n (reg_max) x delta strides",
    "clamped": "the edge is farther than the regression range, so the predicted box ends too early",
    "suspect": "what a trained model contradicts; look at the image, for either of the two may be wrong",
    "small": "an area under 32 x 32 pixels of the image, as AP small counts",
}
