"""Problems of a dataset that are found before it is trained on, and their fixes: ``gfocal check``.

findings.py          all kinds of findings, with severity and fix; Finding
records.py           problems that the readers met
annotations.py       odd boxes; classes and splits
image_files.py       every image file: header, fingerprint of the pixels, findings
duplicates.py        duplicate and near-duplicate images; images shared by two splits
geometry.py          what of a detector decides which points are assigned to a box
regression_range.py  edges outside the regression range, unassigned boxes
advice.py            changes of a config that solve both
before_training.py   what ``gfocal train`` checks: refusal, warnings, ``--auto``
check.py             the whole of ``gfocal check``
"""
