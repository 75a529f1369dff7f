"""Objects that have no box: labels of whole images, points, lines."""

from __future__ import annotations

from dataclasses import dataclass, field

from gfocal.data.annotated import OBJECTS_WITHOUT_BOX, AnnotatedImage
from gfocal.data.readers.reading import Reading, leave_out

NEVER_A_BOX = "objects of classes that never have a box, in images with boxes: not ground truth of a detector"


@dataclass
class Unboxed:
    """The objects without a box in the images of a dataset.

    Where a class has boxes in other images, an object of it without a box is lost ground truth: its image is left
    out. So is an image with such objects alone. The keypoints or scene labels beside boxes of other classes are
    skipped with a note.
    """

    objects: list[tuple[AnnotatedImage, str, str]] = field(default_factory=list)

    def add(self, image: AnnotatedImage, name: str, record: str) -> None:
        """Add an object: its class, "" where it has none, and where in the file it is."""
        self.objects.append((image, name, record))

    def leave_out_images(self, reading: Reading) -> None:
        """Leave images out because of these objects, once all of them are read."""
        boxed = {box.name for image in reading.images for box in image.boxes}
        for image, name, record in self.objects:
            if not image.boxes or not name or name in boxed:
                leave_out(image, OBJECTS_WITHOUT_BOX, record)
            elif not image.left_out:
                reading.note(NEVER_A_BOX, f"of class {name}", "skipped")
