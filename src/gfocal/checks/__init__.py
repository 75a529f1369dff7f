"""Problems of a dataset that are found before it is trained on, and their fixes: ``gfocal check``.

findings.py          all kinds of findings, with severity, fix and command; Finding
terms.py             words that not everybody knows, each in a clause
records.py           problems that the readers met
annotations.py       odd boxes
class_summary.py     objects of each class, and their sizes
class_names.py       class names that may mean one class
class_findings.py    odd classes and splits
image_files.py       every image file: header, fingerprint of the pixels, findings
box_changes.py       what differs between the boxes of two images
duplicates.py        groups of duplicate and near-duplicate images; images shared by two splits
geometry.py          what of a detector decides which points are assigned to a box
regression_range.py  edges outside the regression range, unassigned boxes
tile_size.py         objects that are small at the input, and tiles that show them better
advice.py            changes of a config that solve both
before_training.py   what ``gfocal train`` checks: refusal, warnings, ``--auto``
after_training.py    classes that a run lost, and what keeps them
proposals.py         what a model finds in an image and its mirror image
edge_deviations.py   how far annotated edges lie from where a model expects them
suspects.py          annotations that are probably wrong, each kind ranked by its evidence
label_review.py      the review of annotations: from a model's detections to findings
review_files.py      the review as a table, json, and images for CVAT and Label Studio
check.py             the whole of ``gfocal check``
"""
