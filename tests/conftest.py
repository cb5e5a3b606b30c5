"""Fixtures of every level of tests, and Hypothesis' settings: a test fails by what it finds, never by its time."""

from hypothesis import settings

from tests.cluster.fixtures import api_server, cluster

settings.register_profile("cycleops", deadline=None)
settings.load_profile("cycleops")

__all__ = ["api_server", "cluster"]
