"""Continuous batching: sequences join and leave between the steps of decoding. ``plan`` and ``blocks`` are pure."""
