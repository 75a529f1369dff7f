"""What is wrong with a data set before it is trained on, and what to do about it: ``gfocal check``."""
