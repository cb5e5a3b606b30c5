"""The planner's predictions held against real servers: ``python -m bench.planner --validate``."""
