"""Writers: datasets, and for VOC, YOLO and CSV also detections, into the files of a format.

placement.py      file names of the images: collisions, images in several splits
decimals.py       the shortest decimal numbers that keep every box exactly
coco.py           COCO json
voc.py            Pascal VOC xml
yolo.py           YOLO label files and data.yaml
csv.py            CSV tables
"""
