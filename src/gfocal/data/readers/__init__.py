"""Readers: the files of a format into a FileData with all problems that were found.

coco.py           COCO json
voc.py            Pascal VOC xml
yolo.py           YOLO: data.yaml, folders and lists of images
yolo_labels.py    the lines of YOLO label files
csv.py            CSV tables of boxes
csv_columns.py    the names of their columns and the values of their cells
kitti.py          KITTI label_2
visdrone.py       VisDrone-DET
crowdhuman.py     CrowdHuman odgt
widerface.py      WIDER FACE lists
mot.py            MOTChallenge gt.txt, frames as images
openimages.py     Open Images csv
label_files.py    folders with a text file of labels for each image
"""
