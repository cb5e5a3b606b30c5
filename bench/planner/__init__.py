"""How fast the planner is: ``python -m bench.planner``."""
