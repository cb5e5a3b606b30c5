"""The balancer image's own HAProxy: takes every configuration that the operator makes, and hashes pods by address."""

import base64
import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cycleops.api.cycleservice import BalancingAlgorithm
from cycleops.service.haproxy import GRPC_PORT, MAXIMUM_CONNECTIONS, Balancer, render, render_pages
from cycleops.service.haproxy_door import Door
from tests.images.run import INSIDE, run_in_image
from tests.unit.service.doors import write_door

pytestmark = pytest.mark.skipif(INSIDE in os.environ, reason="this is the inside")
FOLDER = "/tmp/configurations"
BALANCER = Balancer(
    algorithm=BalancingAlgorithm.CONSISTENT_HASH, pods_name="supersense-pods.demo.svc.cluster.local", slots=5,
    budget_milliseconds=80, target_milliseconds=80, connections_per_pod=256, drain_seconds=25,
)  # fmt: skip
# Pods that answer with their address, and the balancers' answers to 40 keys through bash's own sockets.
PODS = """
defaults
    mode http
    timeout client 5s
frontend pod
    bind 127.0.1.1:8081
    bind 127.0.1.2:8081
    bind 127.0.1.3:8081
    bind 127.0.1.4:8081
    bind 127.0.1.5:8081
    http-request return status 200 content-type text/plain lf-string "%[dst]\\n"
"""
ASK = """
for name in pods one two; do haproxy -db -f $FOLDER/$name/haproxy.cfg >/dev/null 2>&1 & done
sleep 4
for key in $(seq 40); do for port in 8080 9080; do
  exec 3<>/dev/tcp/127.0.0.1/$port
  printf 'GET /v2 HTTP/1.1\\r\\nHost: x\\r\\nX-Cycle-Affinity: key %s\\r\\nConnection: close\\r\\n\\r\\n' $key >&3
  echo $key $port $(tail -n 1 <&3)
done; done
kill $(jobs -p)
"""


def inside(files: Mapping[str, str], script: str) -> str:
    """Output of the script in the balancer's image, with ``files`` below FOLDER."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    content = base64.b64encode(packed.getvalue()).decode()
    unpack = f"FOLDER={FOLDER}; mkdir $FOLDER && echo {content} | base64 -d | tar xz -C $FOLDER\n"
    done = run_in_image("balancer", ["bash", "-ec", unpack + script])
    assert done.returncode == 0, done.stdout
    return done.stdout


def configuration(balancer: Balancer, name: str) -> dict[str, str]:
    placed = replace(balancer, config_folder=f"{FOLDER}/{name}")
    texts = {"haproxy.cfg": render(placed), **render_pages(placed)}
    return {f"{name}/{file}": text for file, text in texts.items()}


def test_haproxy_accepts_every_configuration(tmp_path: Path) -> None:
    write_door(tmp_path, tls=True, keys=True)
    files = {f"door/{file.name}": file.read_text() for file in tmp_path.iterdir()}
    certificate, keys = f"{FOLDER}/door/tls.pem", f"{FOLDER}/door/keys.map"
    for algorithm in BalancingAlgorithm:
        for tls in ("", certificate):
            for table in ("", keys):
                door = Door(certificate_file=tls, keys_file=table)
                for grpc_port in (0, GRPC_PORT):
                    name = f"{algorithm.value}-{bool(tls)}-{bool(table)}-{grpc_port}"
                    balancer = replace(BALANCER, algorithm=algorithm, door=door, grpc_port=grpc_port)
                    files |= configuration(balancer, name)
    check = "for file in $FOLDER/*/haproxy.cfg; do haproxy -c -f $file; done; haproxy -v; ls $FOLDER | wc -l"
    output = inside(files, check)
    assert "HAProxy version 3.0" in output
    assert output.strip().endswith("25")  # 24 and the door


def test_two_balancers_that_learn_pods_in_different_orders_send_a_key_to_the_same_pod() -> None:
    addresses = [f"127.0.1.{i}" for i in range(1, 6)]
    files = {"pods/haproxy.cfg": PODS}
    for name, port, order in (("one", 8080, addresses), ("two", 9080, addresses[::-1])):
        balancer = replace(BALANCER, http_port=port, admin_port=port + 1, address="127.0.0.1")
        template = f"server-template pod 1-{balancer.slots} {balancer.pods_name}:8081"
        servers = "\n".join(f"    server pod{i} {address}:8081" for i, address in enumerate(order, start=1))
        made = configuration(balancer, name)
        text = made[f"{name}/haproxy.cfg"].replace(f"    {template}", servers)
        text = text.replace(" resolvers cluster resolve-prefer ipv4 init-addr none", "")
        # A build container may have 1,024 open files.
        made[f"{name}/haproxy.cfg"] = text.replace(f"maxconn {MAXIMUM_CONNECTIONS}", "maxconn 64")
        files |= made
    lines = [line.split() for line in inside(files, ASK).splitlines() if line.count(" ") == 2]
    chosen = {(key, port): pod for key, port, pod in lines}
    assert len(chosen) == 80, lines
    assert {pod for (_, port), pod in chosen.items() if port == "8080"} == set(addresses)
    assert [key for (key, port), pod in chosen.items() if chosen[key, "8080"] != pod] == []
