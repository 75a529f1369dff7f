"""Pages and terminal tables about demos, evaluations, checks and runs.

A page is one html file that loads nothing; only the viewer has scripts.

    html.py          the page kit: skeleton, style, escaping, figures, tables
    demo.py          page of ``gfocal demo``
    training.py      page of a run, written while it trains
    evaluation.py    page of ``gfocal eval --report``
    viewer.py        page of ``gfocal eval --viewer``
    calibration.py   page of ``gfocal calibrate --report``
    check.py         page of ``gfocal check --html``
    check_images.py  its images: boxes of findings, duplicates side by side
    label_review.py  page of ``gfocal check --review``
    check_tables.py  what ``gfocal check`` prints
    runs.py          what ``gfocal compare`` compares: configs, environments, results, spread over seeds
    comparison.py    page of ``gfocal compare --out``
    tables.py        tables for a terminal: COCO numbers
"""
