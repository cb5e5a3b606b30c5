"""Times of tokens as planned held against a real generating server: ``python -m bench.planner.generation``."""
