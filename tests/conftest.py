"""Fixtures of every level of tests."""

from tests.cluster.fixtures import api_server, cluster

__all__ = ["api_server", "cluster"]
