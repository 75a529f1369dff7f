"""Synthetic images: a dataset without files, in which the distribution of every ambiguous edge is known.

scenes.py       SyntheticScenes: the dataset, and the arrangement of a scene
objects.py      one object and its ambiguous sides
shapes.py       rendering: shapes, fills, backgrounds, shadows
edge_laws.py    the distribution of an edge, and what DFL converges to under it
scene_files.py  scenes as image files with annotations: example data for the notebooks and the tests of the docs
"""
