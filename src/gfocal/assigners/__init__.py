"""assigners"""
