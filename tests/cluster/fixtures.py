"""pytest fixtures: a full cluster and an API-only one, each started on first use and once per run.

tests/conftest.py imports them. Both end with the test process, whatever becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.choose import log_tails, start_api_only, start_cluster
from tests.cluster.clusters import Cluster, EmbeddedCluster


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster that runs pods; `cluster.load_images("trainer", ...)` brings in images."""
    started = start_cluster()
    yield started
    _end(started, request)


@pytest.fixture(scope="session")
def api_server(request: pytest.FixtureRequest) -> Iterator[EmbeddedCluster]:
    """A real API server with etcd and the controller manager, and no node; up in a few seconds."""
    started = start_api_only()
    yield started
    _end(started, request)


def _end(started: Cluster, request: pytest.FixtureRequest) -> None:
    """Stop it; after a run with failures first print the ends of the components' logs."""
    if request.session.testsfailed:
        print(log_tails(started))
    started.stop()
