"""The cache image's own Valkey runs with what the operator tells it, asks for the password, and forgets by age."""

import os
import shlex

import pytest

from cycleops.service.desired import desired_children
from tests.images.run import INSIDE, run_in_image
from tests.unit.service.make import OWNER, SETTINGS, deployed, hardware, spec

CHECK = """
echo 'requirepass secret' > /tmp/auth.conf
{command} > /tmp/log 2>&1 &
for i in $(seq 50); do valkey-cli -a secret ping 2>/dev/null | grep -q PONG && break; sleep 0.1; done
valkey-cli ping | grep -q NOAUTH
valkey-cli -a secret config get maxmemory-policy | grep -q allkeys-lru
valkey-cli -a secret eval "for i=1,400 do redis.call('set', i, string.rep('x', 10000)) end" 0
valkey-cli -a secret dbsize
valkey-cli -a secret info persistence | grep -q 'aof_enabled:0'
ls /tmp/*.rdb 2>/dev/null && exit 1
valkey-server --version
"""


@pytest.mark.skipif(INSIDE in os.environ, reason="this is the inside")
def test_valkey_runs_with_the_operators_settings() -> None:
    bodies = desired_children(
        owner=OWNER,
        spec=spec(cache={"l1": {}, "l2": {"managed": True, "size": "3Mi"}}),
        deployed=deployed(),
        hardware=hardware(),
        settings=SETTINGS,
        secrets={},
        new_cache_password="secret",
    )
    deployment = next(b for b in bodies if b["kind"] == "Deployment" and b["metadata"]["name"].endswith("-cache"))
    command = shlex.join(deployment["spec"]["template"]["spec"]["containers"][0]["command"])
    command = command.replace("/etc/valkey/auth.conf", "/tmp/auth.conf")
    done = run_in_image("cache", ["bash", "-ec", CHECK.format(command=command)])
    assert done.returncode == 0, done.stdout
    assert "server v=8." in done.stdout
    kept = next(int(line) for line in done.stdout.splitlines() if line.isdigit())
    assert 0 < kept < 400
