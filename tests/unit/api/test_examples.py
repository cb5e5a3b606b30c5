"""Every example manifest is one that the API takes, and jobs and services that belong together agree."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cycle_wire.metrics import METRICS, higher_is_better
from cycleops.api.cyclejob import CycleJobSpec
from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.hardwareclass import HardwareClassSpec

EXAMPLES = Path(__file__).parents[3] / "examples"
MODELS = {"CycleJob": CycleJobSpec, "CycleService": CycleServiceSpec, "HardwareClass": HardwareClassSpec}


def objects(path: Path) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all(path.read_text()) if item]


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_an_example_is_what_the_api_takes(path: Path) -> None:
    for item in objects(path):
        if item["kind"] in MODELS:
            MODELS[item["kind"]].model_validate(item["spec"])


@pytest.mark.parametrize("name", ["", "generation", "imageclassification", "recommendation", "translation"])
def test_a_service_asks_for_what_its_job_measures(name: str) -> None:
    folder = EXAMPLES / name
    (job,), (service,) = objects(folder / "cyclejob.yaml"), objects(folder / "cycleservice.yaml")
    trained = CycleJobSpec.model_validate(job["spec"])
    served = CycleServiceSpec.model_validate(service["spec"])
    floor = served.budget.accuracy
    assert served.model.cycle_job == job["metadata"]["name"]
    assert floor is not None and floor.metric in trained.evaluation.metrics and higher_is_better(floor.metric)
    assert set(trained.evaluation.metrics) <= set(METRICS[trained.task])
    assert floor.baseline in {variant.name for variant in trained.variants}
    assert set(served.hardware) <= set(trained.profile.hardware or [])
