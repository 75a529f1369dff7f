"""Pages and terminal tables about demos, evaluations, checks and runs.

A page is one html file without scripts that loads nothing.

    html.py        the page kit: skeleton, style, escaping, figures, tables
    demo.py        page of ``gfocal demo``
    evaluation.py  page of ``gfocal eval --report``
    check.py       page of ``gfocal check --html``
    runs.py        what ``gfocal compare`` compares: configs, environments, results, spread over seeds
    comparison.py  page of ``gfocal compare --out``
    tables.py      tables for a terminal: COCO numbers, findings of a check
"""
