"""Readers: the files of a format into a FileData with all problems that were found.

coco.py           COCO json
coco_objects.py   its annotations: boxes, outlines, flags, labels of whole images
fields.py         flags and ids as tools write them
voc.py            Pascal VOC xml
yolo.py           YOLO: data.yaml, folders and lists of images
yolo_labels.py    the lines of YOLO label files
csv.py            CSV tables of boxes
csv_columns.py    the names of their columns and the values of their cells
csv_lists.py      cells with several numbers, as in Kaggle's competitions
kitti.py          KITTI label_2
visdrone.py       VisDrone-DET
crowdhuman.py     CrowdHuman odgt
widerface.py      WIDER FACE lists
mot.py            MOTChallenge gt.txt, frames as images
openimages.py     Open Images csv
label_files.py    folders with a text file of labels for each image
via.py            VIA project and annotation json, and csv
createml.py       Apple Create ML json
fiftyone.py       FiftyOne's own labels.json
supervisely.py    Supervisely projects
megadetector.py   MegaDetector's batch output
bdd100k.py        BDD100K and Scalabel json
json_files.py     json files of tools: recognized, found by split, read
reading.py        objects of tools: boxes, hulls, and images that are left out
"""
