"""What to label next: images of a pool that a model is uncertain about, and that differ from each other.

pool.py    image files through a model: objects, uncertainty, and what each image looks like
choice.py  the images to label, by uncertainty and diversity; arrays alone
tasks.py   the choice as a table, a list, and tasks of labeling tools
"""
