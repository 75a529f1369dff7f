"""Evaluation of detections against ground truth: COCO's numbers, curves, thresholds and error types.

coco_ap.py         the twelve numbers of COCO, equal to pycocotools
detections.py      detections of a model on a dataset, and their AP
best_result.py     the numbers of the best epoch of a run, in a file
matching.py        which detection matches which ground-truth box, in arrays
curves.py          precision and recall, F1, miss rate; confusion matrix; reliability
bootstrap.py       confidence intervals of AP, and of the difference of two detectors
thresholds.py      a score threshold for each class
error_analysis.py  TIDE's error types; the worst images
evaluate.py        all of these together: Evaluation, evaluate
"""
