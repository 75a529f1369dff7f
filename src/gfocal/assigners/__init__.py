"""Which points are to predict which ground-truth box: one function for each published rule.

In reading order:

    atss.py     ATSS, as in GFL
    fcos.py     FCOS, with or without center sampling
    max_iou.py  anchors of sufficient IoU: RetinaNet, SSD
    fovea.py    FoveaBox
    sapd.py     SAPD, with a weight for each point
    dsla.py     DSLA of NanoDet-Plus, by what the detector predicts
    tal.py      TAL of TOOD, by what the detector predicts, with targets of the class score
"""
