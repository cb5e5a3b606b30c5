"""Inference of one variant. ``model.py`` is the trainable model; the rest never imports transformers.

Importing transformers takes seconds and a quarter of a gigabyte, and its forward pass spends more time in Python than a
short text spends in arithmetic; ``encoder.py`` computes the same function (tests compare the two).
"""
