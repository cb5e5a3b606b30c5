"""Metrics by task, and what stands for a model when nobody names one."""

from dataclasses import replace

from cycle_wire.metrics import METRICS, evaluation_of, higher_is_better
from cycle_wire.parts import Evaluation, Task
from cycle_wire.profile import MetricValue
from cycleops.planner.floor import judge
from tests.unit.planner.profiles import candidate


def test_an_evaluation_without_metrics_has_the_tasks() -> None:
    for task in Task:
        assert evaluation_of(task, Evaluation(maximum_rows=7)).metrics == list(METRICS[task])
        assert higher_is_better(METRICS[task][0])  # it stands for the model
    named = Evaluation(metrics=["f1Macro"])
    assert evaluation_of(Task.TEXT_CLASSIFICATION, named) == named


def test_without_a_floor_the_first_metric_that_is_better_when_higher_is_the_accuracy() -> None:
    values = [MetricValue(name="perplexity", value=40.0, rows=9), MetricValue(name="tokenAccuracy", value=0.4, rows=9)]
    some = candidate()
    some = replace(some, profile=some.profile.model_copy(update={"metrics": values}))
    assert judge(candidate=some, floor=None, candidates=[some]).accuracy == 0.4
