"""Readers: the files of a format into a FileData with all problems that were found.

coco.py           COCO json
coco_objects.py   its annotations: boxes, outlines, flags, labels of whole images
fields.py         flags and ids as tools write them
voc.py            Pascal VOC
voc_files.py      its folders, splits and images
voc_xml.py        one of its xml files
yolo.py           YOLO: data.yaml, folders and lists of images
yolo_labels.py    the lines of YOLO label files
yolo_layout.py    what their numbers are: boxes, polygons, boxes with keypoints or a confidence
csv.py            CSV tables of boxes
csv_columns.py    the names of their columns and the values of their cells
csv_lists.py      cells with several numbers, as in Kaggle's competitions
label_studio.py   Label Studio json, raw and JSON_MIN
label_studio_regions.py  its results that belong together
label_studio_yolo.py  Label Studio's YOLO export
cvat.py           CVAT xml, for images and video
darknet.py        Darknet's YOLO with obj.data, CVAT's YOLO 1.1
label_lines.py    the lines of its label files
labelme.py        LabelMe json
unboxed.py        objects without a box, such as labels of whole images
xml_files.py      xml files: recognized by their first tag
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
