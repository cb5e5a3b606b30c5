"""The caches that `python -m bench.cache` compares, each as one process on one core in front of the same server."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cycle_wire.serving import CachePolicy, SidecarConfig

ROOT = Path(__file__).parents[2]
SERVER_CORE, LOAD_CORE = "0", "1"
UPSTREAM = """
import sys
from aiohttp import web
ANSWER = b'{"model_name":"m","model_version":"a1b2c3d4e5f6-int8","outputs":[{"name":"label","datatype":"BYTES",' \\
    b'"shape":[1],"data":["noun.artifact"]},{"name":"probability","datatype":"FP32","shape":[1],"data":[0.9312]}]}'
async def answer(request):
    await request.read()
    return web.Response(body=ANSWER, content_type="application/json", headers={"Cache-Control": "max-age=3600"})
app = web.Application()
app.router.add_route("*", "/{path:.*}", answer)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
"""
NGINX = """
daemon off; worker_processes 1; error_log stderr error; pid {folder}/nginx.pid; user root;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_body_buffer_size 64k; client_max_body_size 1m;
  proxy_cache_path {folder}/cache keys_zone=answers:64m max_size=64m use_temp_path=off;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache answers; proxy_cache_methods GET HEAD POST;
      proxy_cache_key "$request_uri|$http_x_cycle_tenant|$request_body";
    }}
  }}
}}
"""
VARNISH = 'vcl 4.1;\nbackend server {{ .host = "127.0.0.1"; .port = "{upstream}"; }}\n'


@dataclass(frozen=True)
class Running:
    name: str
    port: int
    process: "subprocess.Popen[bytes]"
    gets: bool = False  # plain Varnish keeps no answers to POST: it is asked by GET, with the text in the URL

    def cpu_seconds(self) -> float:
        """Of the process and its children."""
        ticks = 0
        for pid in (self.process.pid, *_children(self.process.pid)):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def upstream() -> Iterator[int]:
    """Answers everything alike; its port."""
    port = free_port()
    with _running([sys.executable, "-c", UPSTREAM, str(port)], port=port, core=LOAD_CORE):
        yield port


@contextlib.contextmanager
def sidecar(
    folder: Path, *, upstream_port: int, policy: CachePolicy, grpc: bool = False, size_bytes: int | None = None
) -> Iterator[Running]:
    """``size_bytes`` None: what is usual."""
    port = free_port()
    config = SidecarConfig(
        upstream=f"http://127.0.0.1:{upstream_port}",
        port=port,
        grpc=grpc,
        model_digest="sha256:" + "a" * 64,
        variant="int8",
        policy=policy,
        ttl_seconds=3600,
        **({} if size_bytes is None else {"size_bytes": size_bytes}),
    )
    file = folder / "sidecar.json"
    file.write_text(config.to_json())
    command = [sys.executable, "-m", "cycle_server.cli", "sidecar", "--config", str(file)]
    with _running(command, port=port) as process:
        yield Running(f"cycle sidecar {policy}", port, process)


@contextlib.contextmanager
def nginx(folder: Path, *, upstream_port: int) -> Iterator[Running]:
    port, home = free_port(), folder / "nginx"
    home.mkdir()
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=home, port=port, upstream=upstream_port))
    with _running(["nginx", "-e", "stderr", "-p", str(home), "-c", str(file)], port=port) as process:
        yield Running("nginx", port, process)


@contextlib.contextmanager
def varnish(folder: Path, *, upstream_port: int) -> Iterator[Running]:
    port, file = free_port(), folder / "default.vcl"
    file.write_text(VARNISH.format(upstream=upstream_port))
    command = ["varnishd", "-F", "-a", f"127.0.0.1:{port}", "-f", str(file), "-n", str(folder / "varnish")]
    command += ["-s", "malloc,64m", "-t", "3600", "-T", "none", "-j", "none"]
    with _running(command, port=port) as process:
        yield Running("varnish (GET)", port, process, gets=True)


@contextlib.contextmanager
def _running(command: list[str], *, port: int, core: str = SERVER_CORE) -> Iterator["subprocess.Popen[bytes]"]:
    """On one core; with the paths of the server image's code."""
    paths = os.pathsep.join(str(ROOT / name) for name in ("server_image", "wire"))
    environment = os.environ | {"PYTHONPATH": paths}
    process = subprocess.Popen(["taskset", "--cpu-list", core, *command], env=environment, stderr=subprocess.DEVNULL)
    try:
        _wait_until_listening(port, process)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_listening(port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen on {port}")


def load(running: Running, requests: Path, *, seconds: float, rate: float | None = None) -> dict[str, float]:
    """What bench.cache.load says, from its own core; also the server's CPU seconds."""
    command = [
        "taskset",
        "--cpu-list",
        LOAD_CORE,
        sys.executable,
        "-m",
        "bench.cache.load",
        "--port",
        str(running.port),
    ]
    command += ["--seconds", str(seconds), "--requests", str(requests), *(["--rate", str(rate)] if rate else [])]
    before = running.cpu_seconds()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return {**result, "cpuSeconds": running.cpu_seconds() - before}


def wrk(running: Running, requests: list[str], folder: Path, *, seconds: int) -> tuple[float, float]:
    """Answers per second as fast as it goes, and the server's CPU seconds per wall second. A C program's load."""
    script = folder / "wrk.lua"
    quoted = ",\n".join(json.dumps(request, ensure_ascii=True) for request in requests)
    script.write_text(
        f"local all = {{{quoted}}}\nrequest = function() return all[math.random(#all)] end\n"
        "done = function(s) io.write(string.format('RESULT %d %d %d %d', s.requests, s.duration,"
        " s.errors.status, s.errors.connect + s.errors.read + s.errors.write + s.errors.timeout)) end\n"
    )
    command = ["taskset", "--cpu-list", LOAD_CORE, "wrk", "-t1", "-c32", f"-d{seconds}s", "-s", str(script)]
    before = running.cpu_seconds()
    text = subprocess.run([*command, f"http://127.0.0.1:{running.port}/"], capture_output=True, text=True, check=True)
    answers, microseconds, bad, broken = (int(part) for part in text.stdout.rpartition("RESULT ")[2].split())
    if bad or broken:
        raise RuntimeError(f"{running.name}: {bad} answers were errors, {broken} broke off")
    took = microseconds / 1e6
    return answers / took, (running.cpu_seconds() - before) / took


def missing_tools() -> list[str]:
    return [name for name in ("nginx", "varnishd", "wrk", "taskset") if shutil.which(name) is None]
