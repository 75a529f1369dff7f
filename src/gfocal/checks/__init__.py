"""What is wrong with a dataset before it is trained on, and what to do about it: ``gfocal check``."""
