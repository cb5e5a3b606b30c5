"""The examples, made smaller: the same fields with fewer steps, rows and cells, so that a test takes minutes."""

import copy
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PAIR = "cpu-pair"  # a class whose pods have two processes that compute


def example(name: str) -> Object:
    """The first object of an example manifest."""
    return next(yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()))


def hardware_pair() -> Object:
    """The example's small class, with two processes that compute."""
    return merge(example("hardwareclass"), {"metadata": {"name": PAIR}, "spec": {"serverWorkers": 2}})


def merge(base: Object, change: Object) -> Object:
    """A deep copy of base with change laid over it; None removes a field (JSON merge patch)."""
    result = copy.deepcopy(base)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


def small_job(name: str, **spec: Any) -> Object:
    """The example CycleJob with 40 steps, two variants and few cells to measure; `spec` is merged over it."""
    job = example("cyclejob")
    job["metadata"]["name"] = name
    small = {
        "training": {"maximumSteps": 40},
        "output": {"uri": f"pvc://models/{name}"},
        "evaluation": {"maximumRows": 300},
        "variants": [variant for variant in job["spec"]["variants"] if variant["name"] in ("fp32", "int8")],
        "profile": {"batchSizes": [1, 4], "sequenceLengths": [16, 64]},
        "runPolicy": {"checkpoint": {"everySteps": 10, "keep": 2}},
    }
    job["spec"] = merge(merge(job["spec"], small), spec)
    return job


def service_for(name: str, job: str, **spec: Any) -> Object:
    """The example CycleService for another CycleJob, with a budget that a slow and busy machine meets too; `spec` is
    merged over it."""
    service = example("cycleservice")
    service["metadata"]["name"] = name
    easy = {"budget": {"latency": {"milliseconds": 500}, "stages": None}, "traffic": {"requestsPerSecond": 5}}
    service["spec"] = merge(merge(merge(service["spec"], {"model": {"cycleJob": job}}), easy), spec)
    return service
