"""Writers: datasets and, for VOC, YOLO, CSV, CVAT, Label Studio and FiftyOne, detections as the files of a format.

placement.py      file names of the images: collisions, images in several splits
written_objects.py  objects as the files of labeling tools store them, and what they cannot store
rows.py           long json files, written line by line
decimals.py       the shortest decimal numbers that keep every box exactly
coco.py           COCO json
voc.py            Pascal VOC xml
yolo.py           YOLO label files and data.yaml
csv.py            CSV tables
label_studio.py   tasks of Label Studio
cvat.py           CVAT's xml
fiftyone.py       detections for FiftyOne
labelme.py        LabelMe json
createml.py       json of Create ML
via.py            projects of VIA, the VGG Image Annotator
kitti.py          KITTI's label files
"""
