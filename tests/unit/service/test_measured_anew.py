"""What new profiles are, and what is believed once the class that serves was measured again."""

from datetime import timedelta
from typing import Any

import pytest

from cycleops.api.cycleprofile import CycleProfile
from cycleops.api.cycleservice import CycleService
from cycleops.service.adapting import begun, measured_anew
from cycleops.service.corrections import corrections_of
from cycleops.service.evidence import find_evidence
from cycleops.service.measuring import new_profiles
from cycleops.service.memory import Memory
from cycleops.service.remeasure import is_withheld
from tests.unit.service.make import NOW, OWNER, profile, sources, spec
from tests.unit.service.test_adapting import SERVICE, fed
from tests.unit.service.test_remeasure import LONGER, USUAL, delivery, ended, report


def longer_inputs() -> Memory:
    """Of a service whose inputs were short and are long, and that is slow."""
    memory = fed(begun(SERVICE), 20.0, lengths=USUAL, compute_seconds=0.07).memory
    return fed(memory, 20.0, scrapes=2, at=2e9, lengths=LONGER, compute_seconds=0.07).memory


def test_a_newer_measurement_takes_what_shifted_for_what_is_usual_and_begins_without_slowness() -> None:
    memory = measured_anew(longer_inputs(), profiled_at=1, declared=(16, 48))
    assert memory.state.watch.findings
    assert memory.planned_slowness > 1.0
    assert measured_anew(memory, profiled_at=1, declared=(16, 48)) == memory

    anew = measured_anew(memory, profiled_at=2, declared=(16, 48))
    assert anew.state.watch.findings == ()
    assert anew.planned_slowness == 1.0
    assert anew.tokens is not None
    assert (64 < anew.tokens[0] <= 96, 192 < anew.tokens[1] <= 256) == (True, True)
    more = fed(anew, 20.0, scrapes=2, at=3e9, lengths=memory.state.watch.lengths.shifted, compute_seconds=0.07).memory
    assert more.state.watch.findings == ()  # what comes now is usual


@pytest.mark.parametrize(
    ("traffic", "counts"),
    [
        ({"basis": "Maximum", "inputTokens": {"p50": 16, "p99": 48}}, True),
        ({"basis": "Measured", "inputTokens": {"p50": 16, "p99": 48}}, True),
        ({"basis": "Declared", "inputTokens": {"p50": 16, "p99": 48}}, False),
        ({"basis": "Maximum", "inputTokens": {"p50": 80, "p99": 250}}, False),  # the user says it anew
    ],
)
def test_lengths_that_were_measured_anew_count_where_plans_follow_measurements(
    traffic: dict[str, Any], counts: bool
) -> None:
    first = measured_anew(longer_inputs(), profiled_at=1, declared=(16, 48))
    anew = measured_anew(first, profiled_at=2, declared=(16, 48))
    found = corrections_of(anew, spec(traffic={"requestsPerSecond": 20, **traffic}).traffic)
    assert (found.tokens == anew.tokens) == counts
    assert any("tokens" in sentence for sentence in found.sentences) == counts


def test_new_profiles_stand_beside_the_old_ones_and_can_be_measured_again() -> None:
    later = NOW + timedelta(hours=1)
    old, new = profile("int8"), profile("int8", measured_at=later)
    made = [delivery(report(p)) for p in (old, new)]
    one, two = new_profiles(owner=OWNER, profiles=(old,), deliveries=made)
    assert one["metadata"]["name"] != two["metadata"]["name"]
    assert "ownerReferences" not in two["metadata"]
    parsed = CycleProfile.model_validate(two)
    assert (parsed.spec.job, parsed.spec.service, parsed.spec.source) == ("supersense", "supersense", old.spec.source)
    both = find_evidence(sources(profiles=(old, parsed)))
    assert [p.metadata.name for p in both.profiles] == [parsed.metadata.name]


@pytest.mark.parametrize(("done", "made", "withheld"), [(False, 1, True), (False, -1, False), (True, 1, False)])
def test_profiles_of_a_run_count_when_all_of_it_is_done(done: bool, made: int, withheld: bool) -> None:
    under_way = ended(start_time=NOW, completion_time=NOW if done else None, pending=["cpu-small"])
    service = CycleService.model_validate({
        "apiVersion": "cycleops.dev/v1alpha1", "kind": "CycleService", "metadata": {"name": "supersense"},
        "spec": spec().to_dict(), "status": {"remeasurement": under_way.to_dict()},
    })  # fmt: skip
    of_run = profile("int8", service="supersense")
    metadata = of_run.metadata.model_copy(update={"creation_timestamp": NOW + timedelta(minutes=made)})
    assert is_withheld(of_run.model_copy(update={"metadata": metadata}), service=service) == withheld
    assert not is_withheld(profile("int8", service="another"), service=service)
