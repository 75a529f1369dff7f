"""The recipes of augmentation by name, complete: what ``augment.like`` and ``gfocal train --augment`` take."""

from __future__ import annotations

from gfocal.data.transforms import AugmentSettings

AUGMENT_RECIPES: dict[str, AugmentSettings] = {
    # What the recipe ``light`` has: fine-tuning in few epochs.
    "light": AugmentSettings(flip=0.5, colour=0.5, crop=0.3),
    # Objects of other sizes than those of the pictures at hand.
    "medium": AugmentSettings(
        flip=0.5,
        colour=0.5,
        crop=0.5,
        zoom_out=0.3,
        scale=0.2,
        blur=0.05,
        jpeg=0.05,
    ),
    # Few pictures, long runs: other surroundings, other neighbours, other cameras.
    "strong": AugmentSettings(
        flip=0.5,
        colour=0.5,
        crop=0.3,
        zoom_out=0.1,
        scale=0.1,
        rotate=3.0,
        shear=2.0,
        distort=0.1,
        grey=0.02,
        blur=0.1,
        noise=0.1,
        jpeg=0.1,
        erase=0.05,
        mosaic=0.4,
        mixup=0.1,
        copy_paste=0.2,
        close_epochs=4,
    ),
}
