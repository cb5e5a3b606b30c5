"""Fixtures of every level of tests, and Hypothesis' settings: a test fails by what it finds, never by its time."""

from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.cluster.fixtures import api_server, cluster
from tests.cluster.paths import REPOSITORY

settings.register_profile("cycleops", deadline=None)
settings.load_profile("cycleops")

__all__ = ["api_server", "cluster"]

CLUSTER, API = "tests/e2e/", "tests/api/"  # one cluster and one API server for all tests of such a folder
INSIDE = "test_inside.py"  # an item of it is all tests of an image


class ByFixture(LoadScopeScheduling):  # type: ignore[misc]  # xdist is untyped here
    """For several processes (`-n 2 --dist loadscope`): what shares a fixture for the session stays in one of them."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        shared = next((folder for folder in (CLUSTER, API) if file.startswith(folder)), None)
        return shared or (nodeid if file.endswith(INSIDE) else file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFixture:
    return ByFixture(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The cluster's tests come first: they take longest and mostly wait; another process does the others meanwhile."""
    items.sort(key=lambda item: not item.path.is_relative_to(REPOSITORY / CLUSTER))
