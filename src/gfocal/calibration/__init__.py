"""Edges and scores that hold: measured on annotated images that training did not see, stored in the model file.

In reading order:

    matched.py     true positives with their distributions, and every score with what it was worth
    spread.py      the rule for the spread of an edge, fitted where there are enough boxes
    guarantees.py  order statistics of errors, of all boxes, sides and classes
    calibrate.py   spread, guarantees and scores of a model from a dataset
    scores.py      score curves, D-ECE and LaECE
    chance.py      how far a measured coverage may lie off by chance
    verdict.py     what a measured coverage means, and what to do
    coverage.py    measured coverage, width, interval score, CRPS and ENCE
    measure.py     how far edges and scores of a model can be trusted, measured on other images
    held_out.py    intervals of each box by the guarantees of other images, and PIT
"""
