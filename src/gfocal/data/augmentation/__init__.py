"""Augmentation: random changes of a training image, which its boxes follow.

pipeline.py         settings, the order of the operations, the presets light, medium and strong
labeled_image.py    an image with boxes, and how boxes are clipped, occluded and resized
single.py           operations on one image: crop, rotation and shear, rectangles, color and sharpness
mixing.py           operations on several images: mosaic, mixup, copy-paste
"""
