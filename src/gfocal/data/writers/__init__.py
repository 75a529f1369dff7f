"""data/writers"""
