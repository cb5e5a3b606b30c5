"""Fixtures of every level, and Hypothesis' settings: a test fails by what it finds, never by the time it took."""

from hypothesis import settings

from tests.cluster.fixtures import api_server, cluster

settings.register_profile("cycleops", deadline=None)
settings.load_profile("cycleops")

__all__ = ["api_server", "cluster"]
