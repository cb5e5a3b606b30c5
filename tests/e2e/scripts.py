"""What is run inside server pods, which have Python, grpc and the protocol's messages."""

# One request for each text to argv[1]; prints a list of [status, outcome, age].
ASK = """
import json, sys, urllib.error, urllib.request
seen = []
for text in sys.argv[2:]:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
    sent = urllib.request.Request(sys.argv[1], json.dumps({"inputs": [tensor]}).encode())
    try:
        answer = urllib.request.urlopen(sent, timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    seen.append([answer.status, answer.headers.get("X-Cycle-Cache"), answer.headers.get("Age")])
print(json.dumps(seen))
"""
# Other texts all the time, argv[1] over HTTP and argv[2] over gRPC, for argv[3] seconds or until SIGTERM; prints counts
# by result.
LOAD = """
import collections, json, signal, sys, threading, time, urllib.error, urllib.request
import grpc
from cycle_server.protocol import open_inference_pb2 as messages
counts, until = collections.Counter(), time.monotonic() + float(sys.argv[3])

def stop(*_):
    global until
    until = 0

signal.signal(signal.SIGTERM, stop)

def http(text):
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
    sent = urllib.request.Request(sys.argv[1], json.dumps({"inputs": [tensor]}).encode())
    try:
        return f"HTTP {urllib.request.urlopen(sent, timeout=20).status}"
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except OSError as error:
        return f"HTTP {error}"

channel = grpc.insecure_channel(sys.argv[2])
ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer",
    request_serializer=lambda message: message.SerializeToString(),
    response_deserializer=messages.ModelInferResponse.FromString)

def call(text):
    tensor = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(text.encode())
    try:
        ask(messages.ModelInferRequest(model_name=sys.argv[4], inputs=[tensor]), timeout=20)
        return "gRPC OK"
    except grpc.RpcError as error:
        return f"gRPC {error.code().name} {error.details()}"

def work(send, name):
    number = 0
    while time.monotonic() < until:
        number += 1
        counts[send(f"{name} {number} {time.time_ns()}")] += 1
        time.sleep(0.05)

threads = [threading.Thread(target=work, args=(send, name)) for send, name in ((http, "a"), (http, "b"), (call, "c"))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(counts))
"""
CALL = """
import json, sys
import grpc
from cycle_server.protocol import open_inference_pb2 as messages
with grpc.insecure_channel(sys.argv[1]) as channel:
    ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=messages.ModelInferResponse.FromString)
    tensor = messages.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(sys.argv[3].encode())
    answer, call = ask.with_call(messages.ModelInferRequest(model_name=sys.argv[2], inputs=[tensor]), timeout=20)
    print(json.dumps([answer.outputs[0].contents.bytes_contents[0].decode(), dict(call.initial_metadata())]))
"""
# Kills one of the processes that compute: those whose parent is one of their kind. Prints its pid and theirs.
KILL = """
import json, os, signal
from pathlib import Path
parents = {}
for folder in Path("/proc").glob("[0-9]*"):
    try:
        if b"\\0compute\\0" in (folder / "cmdline").read_bytes():
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        continue  # it has ended
workers = sorted(pid for pid, parent in parents.items() if parent in parents)
os.kill(workers[0], signal.SIGKILL)
print(json.dumps(workers))
"""
# Kills the rank that runs in a worker's pod.
KILL_RANK = """
import os, signal
from pathlib import Path
for folder in Path("/proc").glob("[0-9]*"):
    try:
        words = (folder / "cmdline").read_bytes().split(b"\\0")
    except FileNotFoundError:
        continue  # it has ended
    if b"cycle_trainer" in words and b"train" in words:
        os.kill(int(folder.name), signal.SIGKILL)
        break
else:
    raise SystemExit("no rank runs here")
"""
