"""out/demo/report.json: everything the demo saw, taken from the objects' status and from the load generator."""

from datetime import datetime
from typing import Any

from tests.cluster.kubectl import condition

Object = dict[str, Any]
TERMS = ("pre", "compute", "post", "queue")


def metrics_of(entry: Object) -> dict[str, float]:
    """[{name, value}] as {name: value}."""
    return {metric["name"]: metric["value"] for metric in entry.get("metrics", [])}


def build(*, job: Object, service: Object, profiles: list[Object], load: Object) -> Object:
    """The machine-readable report. Raises KeyError where a status lacks what the demo promises."""
    status = job["status"]
    return {
        "job": {
            "name": job["metadata"]["name"],
            "seconds": seconds_between(status["startTime"], status["completionTime"]),
            "variants": [
                {
                    "name": variant["name"],
                    **metrics_of(variant),
                    "sizeBytes": variant["sizeBytes"],
                    "sparsity": variant["sparsity"],
                }
                for variant in status["variants"]
            ],
        },
        "baseline": {entry["name"]: metrics_of(entry) for entry in status["baselines"]},
        "world": {"size": status["world"]["size"], "hosts": status["world"]["hosts"]},
        "profiles": [summary_of_profile(profile) for profile in profiles],
        "plan": plan_of(service),
        "measured": measured_of(load),
        "ready": condition(service, "Ready"),
    }


def seconds_between(begin: str, end: str) -> float:

    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def summary_of_profile(profile: Object) -> Object:
    """One CycleProfile without its histograms."""
    spec = profile["spec"]
    keep = ("variant", "hardwareClass", "parameters", "sizeBytes", "sparsity", "memoryBytes", "startupSeconds")
    return {
        "name": profile["metadata"]["name"],
        **{key: spec[key] for key in keep},
        "batchInvariant": spec["batchInvariant"],
        "processor": spec["processor"],
        "metrics": {metric["name"]: metric["value"] for metric in spec["metrics"]},
        "rows": len(spec["rows"]),
    }


def plan_of(service: Object) -> Object:
    status = service["status"]
    plan = status["plan"]
    return {
        "variant": plan["variant"],
        "batch": plan["batchSize"],
        "hardware": plan["hardware"],
        "replicas": plan["replicas"],
        "costPerHour": plan["costPerHour"],
        "predicted": plan["predicted"],
        "reasons": plan.get("reasons", []),
        "rejected": status.get("rejected", []),
        "frontier": status.get("frontier", []),
    }


def measured_of(load: Object) -> Object:
    """T of every answer; the terms are medians of misses, as the prediction's are: a hit has none."""
    total, missed = load["terms"]["all"]["total"], load["terms"]["miss"]
    return {
        "requests": load["requests"],
        "errors": load["errors"],
        "cacheHitRatio": load["cacheHitRatio"],
        "p50Ms": total["p50Milliseconds"],
        "p99Ms": total["p99Milliseconds"],
        **{f"{term}Ms": missed[term]["p50Milliseconds"] for term in TERMS},
    }
