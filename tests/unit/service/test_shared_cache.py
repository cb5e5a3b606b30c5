"""The children of a shared cache, and how the sidecars find it."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.service.desired import desired_children, unwanted_children
from tests.unit.service.make import OWNER, SETTINGS, deployed, deployment, hardware, spec

Body = dict[str, Any]
MANAGED = {"l1": {}, "l2": {"managed": True, "size": "100Mi"}}
THEIRS = {"l1": {}, "l2": {"urlFrom": {"name": "my-redis", "key": "address"}, "ttlSeconds": 60}}


def children(cache: Body | None, *, password: str | None = "p" * 64, image: str = "a:1") -> dict[tuple[str, str], Body]:
    spec_ = spec(cache=cache, images={"server": image})
    bodies = desired_children(
        owner=OWNER,
        spec=spec_,
        deployed=deployed(),
        hardware=hardware(),
        settings=SETTINGS,
        secrets={},
        new_cache_password=password,
    )
    return {(body["kind"], body["metadata"]["name"]): body for body in bodies}


def sidecar(cache: Body, **changes: Any) -> tuple[Body, Body]:
    """Its configuration and its pod."""
    bodies = children(cache, **changes)
    config: Body = json.loads(bodies["ConfigMap", "supersense-serving"]["data"]["sidecar.json"])
    return config, bodies["Deployment", "supersense-server"]["spec"]["template"]["spec"]


def test_a_managed_cache_keeps_nothing_on_disk_and_no_more_than_it_may() -> None:
    body = children(MANAGED)["Deployment", "supersense-cache"]
    pod = body["spec"]["template"]["spec"]
    container = pod["containers"][0]
    command = container["command"]
    assert container["image"] == SETTINGS.cache_image
    assert command[:2] == ["valkey-server", "/etc/valkey/auth.conf"]
    options = dict(zip(command[2::2], command[3::2], strict=True))
    assert options["--maxmemory"] == str(100 * 2**20)
    assert options["--maxmemory-policy"] == "allkeys-lru"
    assert (options["--save"], options["--appendonly"]) == ("", "no")
    assert int(container["resources"]["limits"]["memory"]) > 150 * 2**20
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["automountServiceAccountToken"] is False
    assert not any("persistentVolumeClaim" in volume for volume in pod["volumes"])


def test_its_password_is_in_its_secret_only() -> None:
    bodies = children(MANAGED)
    secret = bodies.pop(("Secret", "supersense-cache"))
    data = {name: base64.b64decode(text).decode() for name, text in secret["data"].items()}
    assert data["auth.conf"] == f"requirepass {'p' * 64}\n"
    assert data["url"] == f"redis://:{'p' * 64}@supersense-cache.{OWNER.namespace}.svc:6379/0"
    assert "p" * 64 not in json.dumps(list(bodies.values()))


def test_a_secret_that_is_there_is_not_made_again() -> None:
    assert ("Secret", "supersense-cache") not in children(MANAGED, password=None)


@pytest.mark.parametrize(
    ("cache", "name", "key"), [(MANAGED, "supersense-cache", "url"), (THEIRS, "my-redis", "address")]
)
def test_the_sidecar_alone_reads_the_url_and_pods_start_without_it(cache: Body, name: str, key: str) -> None:
    config, pod = sidecar(cache)
    assert config["shared"]["urlPath"] == "/etc/cycleops-cache/url"
    volume = next(volume["secret"] for volume in pod["volumes"] if volume["name"] == "shared-cache")
    assert (volume["secretName"], volume["items"], volume["optional"]) == (name, [{"key": key, "path": "url"}], True)
    mounted = [c["name"] for c in pod["containers"] if any(m["name"] == "shared-cache" for m in c["volumeMounts"])]
    assert mounted == ["cache"]


def test_pods_of_another_image_share_nothing() -> None:
    scopes = {sidecar(THEIRS, image=image)[0]["shared"]["scope"] for image in ("a:1", "a:2")}
    assert len(scopes) == 2
    assert all(scope.startswith(f"{OWNER.namespace}/{OWNER.name}/") for scope in scopes)
    assert sidecar(THEIRS)[0]["shared"]["ttlSeconds"] == 60


def test_without_it_there_is_none_of_it_and_what_was_there_goes_but_its_secret() -> None:
    bodies = children({"l1": {}})
    assert not any(name.endswith("-cache") for _, name in bodies)
    assert sidecar({"l1": {}})[0].get("shared") is None
    key, plain = next(iter(deployment("supersense-cache", wanted=1, available=1).items()))
    labelled = {**plain.body["metadata"], "labels": {"cycleops.dev/role": "cache"}}
    there = replace(plain, raw=json.dumps({**plain.body, "metadata": labelled}).encode())
    secret = {("Secret", "supersense-cache"): there}
    assert unwanted_children(list(bodies.values()), observed={key: there, **secret}) == [there]
    assert unwanted_children(list(children(MANAGED).values()), observed={key: there, **secret}) == []


def test_a_spec_without_a_shared_cache_is_as_it_was() -> None:
    with pytest.raises(ValidationError, match="ttlSeconds"):
        CycleServiceSpec.model_validate({**spec().to_dict(), "cache": {"l2": {"managed": True, "ttlSeconds": 0}}})
