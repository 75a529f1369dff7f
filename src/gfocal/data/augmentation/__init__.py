"""data/augmentation"""
