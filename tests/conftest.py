"""Fixtures of every level of tests, and Hypothesis' settings: a test fails by what it finds, never by its time."""

import pytest
from hypothesis import settings

from tests.cluster.fixtures import api_server, cluster
from tests.cluster.paths import REPOSITORY

settings.register_profile("cycleops", deadline=None)
settings.load_profile("cycleops")

__all__ = ["api_server", "cluster"]

CLUSTER, API = "e2e", "api"  # one cluster and one API server for all tests of such a folder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """For several processes (`-n 2 --dist loadgroup`): what shares a fixture for the session stays in one of them.

    The cluster's tests come first, as they take longest and mostly wait.
    """
    if not config.pluginmanager.has_plugin("xdist"):
        return
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: _level(item) != CLUSTER)


def _level(item: pytest.Item) -> str:
    return item.path.relative_to(REPOSITORY / "tests").parts[0]


def _group(item: pytest.Item) -> str:
    level = _level(item)
    if level in (CLUSTER, API):
        return level
    # Each image's tests are one item of this file.
    return item.nodeid if item.path.name == "test_inside.py" else str(item.path)
