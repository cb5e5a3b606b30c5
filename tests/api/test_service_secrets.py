"""API keys of a service on a real API server: the Secret's version is followed, what is in it is never read."""

import json

from cycleops.service.children import CONFIG_HASH_ANNOTATION
from tests.api.operator_process import wait_until
from tests.api.service_world import PLURALS, ServiceWorld
from tests.api.test_service import planned, world

__all__ = ["world"]  # the fixture
KEYS = "0123456789abcdef" * 4 + " team-a\n"


def config_hash(world: ServiceWorld) -> str:
    body = world.child("deployments", "supersense-balancer")
    found: str = body["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH_ANNOTATION]
    return found


def test_a_missing_secret_is_named_and_a_new_version_rolls_the_balancers(world: ServiceWorld) -> None:  # noqa: F811
    planned(world, auth={"apiKeySecretRef": {"name": "keys"}})
    world.expect("Stalled", "True", "SecretNotFound", words="Secret keys")
    before = config_hash(world)
    secret = {"metadata": {"name": "keys"}, "stringData": {"keys": KEYS}}
    world.client.post(world.path("api/v1", "secrets"), json=secret).raise_for_status()
    wait_until(lambda: config_hash(world) != before, seconds=30, what="balancers of the new secret")
    first = config_hash(world)
    merge = {"Content-Type": "application/merge-patch+json"}
    changed = json.dumps({"stringData": {"keys": KEYS.replace("team-a", "team-b")}})
    world.client.patch(world.path("api/v1", "secrets", "keys"), headers=merge, content=changed).raise_for_status()
    wait_until(lambda: config_hash(world) != first, seconds=30, what="balancers of the rotated secret")
    assert world.condition("Stalled")["reason"] != "SecretNotFound"
    children = [world.child(*name.split("/")) for name in world.children()]
    assert len(children) >= len(PLURALS) - 1
    assert KEYS[:64] not in json.dumps([children, world.service()])
