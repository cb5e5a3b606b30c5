"""A language model's whole path on a real cluster: trained from nothing on two workers, measured, served, talking."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.kubectl import Kubectl, Object, has_condition
from tests.e2e.jobs import succeeded
from tests.e2e.manifests import example, merge

NAME = "dictionary"
CHAT = "/v1/chat/completions"
# Prints the answer's headers, then each line of its body with the seconds since the request.
CALL = """
import json, sys, time, urllib.error, urllib.request
url, body = sys.argv[1:]
began = time.monotonic()
request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
try:
    answer = urllib.request.urlopen(request, timeout=60)
except urllib.error.HTTPError as error:
    sys.exit(f"{error}: {error.headers} {error.read()}")
with answer:
    print(json.dumps({name.lower(): value for name, value in answer.headers.items()}))
    for line in answer:
        print(json.dumps([time.monotonic() - began, line.decode()]))
"""


@pytest.fixture(scope="module")
def taught(workspace: Kubectl) -> Object:
    """The example CycleJob with few steps, through every stage."""
    job = example("generation/cyclejob")
    variants = [variant for variant in job["spec"]["variants"] if variant["name"] in ("fp32", "int8")]
    small = {
        "workers": {"backend": "Torchrun"},
        "training": {"maximumSteps": 120},
        "evaluation": {"maximumRows": 200},
        "variants": variants,
        "profile": {"batchSizes": [1, 2], "sequenceLengths": [16, 64]},
        "runPolicy": {"checkpoint": {"everySteps": 60}},
    }
    return succeeded(workspace, merge(job, {"spec": small}))


@pytest.fixture(scope="module")
def serving(workspace: Kubectl, taught: Object) -> Iterator[Object]:
    """The example CycleService; so few steps reach no floor, so it asks for none."""
    service = example("generation/cycleservice")
    assert service["spec"]["model"]["cycleJob"] == taught["metadata"]["name"]
    workspace.apply(merge(service, {"spec": {"budget": {"accuracy": None}}}))
    yield workspace.wait_for("cycleservice", NAME, has_condition("Ready", "True"), timeout_seconds=240)
    workspace.delete("cycleservice", NAME)


def call(workspace: Kubectl, **body: Any) -> tuple[dict[str, str], list[tuple[float, str]]]:
    """One chat completion from inside the cluster, through balancer and sidecar: headers, lines as they came."""
    pod = workspace.list("pods", f"cycleops.dev/service={NAME},cycleops.dev/role=server")[0]["metadata"]["name"]
    url = f"http://{NAME}.{workspace.namespace}.svc{CHAT}"
    messages = [{"role": "user", "content": body.pop("question")}]
    request = {"model": NAME, "messages": messages, "max_tokens": 24, "temperature": 0, **body}
    output = workspace.run("exec", pod, "-c", "cache", "--", "python3", "-c", CALL, url, json.dumps(request))
    headers, *lines = (json.loads(line) for line in output.splitlines())
    return headers, [(seconds, text) for seconds, text in lines]


def test_job_says_that_it_began_with_nothing_and_learned_something(taught: Object) -> None:
    status = taught["status"]
    assert status["model"]["fromRandomWeights"] is True
    assert status["world"]["size"] == 2
    baselines = {entry["name"]: numbers(entry) for entry in status["baselines"]}
    variants = {entry["name"]: numbers(entry) for entry in status["variants"]}
    assert set(variants) == {"fp32", "int8"}
    # The bigrams need more steps than a test has time for.
    assert variants["fp32"]["perplexity"] < baselines["unigram"]["perplexity"]
    assert variants["int8"]["perplexity"] == pytest.approx(variants["fp32"]["perplexity"], rel=0.05)
    assert 0 < variants["fp32"]["tokenAccuracy"] < 1


def numbers(entry: Object) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in entry["metrics"]}


def test_each_variant_was_measured_while_it_generated(workspace: Kubectl, taught: Object) -> None:
    names = {profile["name"] for profile in taught["status"]["profiles"]}
    profiles = [item["spec"] for item in workspace.list("cycleprofiles") if item["metadata"]["name"] in names]
    assert {spec["variant"] for spec in profiles} == {"fp32", "int8"}
    for spec in profiles:
        assert not spec["rows"]
        assert {row["concurrency"] for row in spec["generation"]} >= {1, 2}
        for row in spec["generation"]:
            assert sum(row["firstToken"]["counts"]) and sum(row["perToken"]["counts"])


def test_service_plans_within_its_caps(serving: Object) -> None:
    plan = serving["status"]["plan"]
    assert plan["variant"] in ("fp32", "int8")
    assert 0 < plan["predicted"]["firstTokenMs"] <= 500
    assert 0 < plan["predicted"]["perTokenMs"] <= 100


@pytest.mark.usefixtures("serving")
def test_an_answer_streams_and_ends(workspace: Kubectl) -> None:
    _, lines = call(workspace, question="What is a dog?", stream=True)
    events = [(seconds, text[6:].strip()) for seconds, text in lines if text.startswith("data: ")]
    assert events[-1][1] == "[DONE]"
    chunks = [json.loads(text) for _, text in events[:-1]]
    said = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]]
    assert "".join(said).strip()
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]][-1] in ("stop", "length")
    # Not all at once: the first words are there before the last ones are made.
    assert len([piece for piece in said if piece]) > 2
    assert events[0][0] < events[-1][0]


@pytest.mark.usefixtures("serving")
def test_a_repeat_comes_from_the_cache(workspace: Kubectl) -> None:
    first_headers, first = call(workspace, question="What is a cat?")
    second_headers, second = call(workspace, question="What is a cat?")
    assert (first_headers["x-cycle-cache"], second_headers["x-cycle-cache"]) == ("miss", "hit")
    answers = [json.loads("".join(text for _, text in lines)) for lines in (first, second)]
    assert answers[0]["choices"] == answers[1]["choices"]
    assert answers[0]["choices"][0]["message"]["content"].strip()
    assert answers[0]["usage"]["completion_tokens"] <= 24


@pytest.mark.usefixtures("serving")
def test_dice_are_thrown_anew(workspace: Kubectl) -> None:
    headers = [call(workspace, question="What is a horse?", temperature=1.0)[0] for _ in range(2)]
    assert all(header["x-cycle-cache"] == "bypass" for header in headers)
