"""Training losses: assignment, losses and their weights, as frozen dataclasses.

In reading order:

    gfl.py      eq. 8: the file to read first
    dense.py    the other dense detectors, as choices on five axes
    ssd.py      SSD, with softmax or QFL
    sapd.py     SAPD, with its level selector
    nanodet.py  NanoDet-Plus, with its auxiliary head
    distillation.py  a teacher's edge distributions beside any of these
"""
