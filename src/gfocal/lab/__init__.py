"""The paper's ablation studies and figures, reproduced: ``gfocal lab``.

Results are compared with the numbers that the paper prints.

    studies.py           the studies: every row of every table as changes of a config
    setup.py             base config and data of a lab, by budget
    running.py           the training of all runs, seed by seed
    results_json.py      results.json: the results of all runs
    paper_comparison.py  means over seeds, differences to the first row, agreement with the paper
    report.py            the report as a page and as markdown
    figures/             the paper's figures
    theory.py            the paper's proofs, checked numerically
    demo_run.py          ``gfocal demo``: a run on synthetic images with a report
"""
