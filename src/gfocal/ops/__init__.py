"""Tensor operations of the method, without state: boxes, points, box coders, decoding.

In reading order:

    boxes.py          IoU, GIoU, distances from points to edges
    points.py         the locations of predictions: one point per cell or per anchor
    distributions.py  the General distribution of an edge: expectation, std, entropy, quantiles
    box_coders.py     the other ways from box logits to boxes: Dirac, Gaussian, deltas of anchors
    nms.py            non-maximum suppression
    decoding.py       logits become detections: threshold, expectation, NMS
    tiles.py          where the tiles of a large image lie, and which detections of a tile count
    seams.py          the detections of all tiles merged
"""
