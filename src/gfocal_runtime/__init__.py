"""Files that ``gfocal export`` wrote, read and run without torch: numpy, Pillow and onnxruntime are enough.

    import gfocal_runtime
    model = gfocal_runtime.load("model.onnx")
    found = model.detect("photo.jpg")
    found.boxes, found.scores, found.class_names, found.edge_std

In reading order:

    metadata.py    what a file says about itself: written by gfocal export, checked value by value on reading
    engines.py     a file as a function of images: onnxruntime, OpenVINO
    images.py      any kind of image -> the input of the network
    resizing.py    the resizing of gfocal in numpy and Pillow
    decoding.py    outputs of the network -> detections
    detections.py  objects found in an image
    detector.py    all of it together: load, detect
"""

from __future__ import annotations

from gfocal_runtime.detections import Detections
from gfocal_runtime.detector import Detector, load
from gfocal_runtime.metadata import ExportedFileError

__all__ = ["Detections", "Detector", "ExportedFileError", "load"]
