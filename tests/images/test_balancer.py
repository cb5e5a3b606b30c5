"""The balancer image's own HAProxy accepts every configuration that the operator makes for it."""

import base64
import os

import pytest

from cycleops.api.cycleservice import BalancingAlgorithm
from cycleops.service.haproxy import Balancer, render
from tests.images.run import INSIDE, run_in_image


@pytest.mark.skipif(INSIDE in os.environ, reason="this is the inside")
@pytest.mark.parametrize("algorithm", list(BalancingAlgorithm))
def test_haproxy_accepts_the_configuration(algorithm: BalancingAlgorithm) -> None:
    text = render(
        Balancer(
            algorithm=algorithm,
            pods_name="supersense-pods.demo.svc.cluster.local",
            slots=12,
            budget_milliseconds=80,
            connections_per_pod=256,
            drain_seconds=25,
        )
    )
    encoded = base64.b64encode(text.encode()).decode()
    check = f"echo {encoded} | base64 -d > /tmp/haproxy.cfg && haproxy -c -f /tmp/haproxy.cfg && haproxy -v"
    done = run_in_image("balancer", ["sh", "-ec", check])
    assert done.returncode == 0, done.stdout
    assert "HAProxy version 3.0" in done.stdout
