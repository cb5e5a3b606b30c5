"""Asks the planner: outside the event loop, once per set of inputs, one plan at a time."""

import asyncio
import hashlib
import json
from collections.abc import Mapping

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.hardwareclass import HardwareClassSpec
from cycleops.planner.planning import Planner
from cycleops.service.evidence import Evidence
from cycleops.service.observation import Outcome
from cycleops.service.question import ask
from cycleops.service.translate import outcome_of

# Of the spec, what a plan depends on.
_PLANNED = {"budget", "traffic", "hardware", "replicas", "headroom", "planning", "load_balancing"}


class Planning:
    """Remembers the last answer of each service, so that a pass without news plans nothing."""

    def __init__(self) -> None:
        self._answers: dict[str, tuple[str, asyncio.Task[Outcome]]] = {}
        self._planner = Planner()
        self._one_at_a_time = asyncio.Semaphore(1)  # planning is computation: more at once would only be slower

    async def outcome(
        self,
        uid: str,
        *,
        spec: CycleServiceSpec,
        evidence: Evidence,
        classes: Mapping[str, HardwareClassSpec],
        requests_per_second: float,
    ) -> Outcome:
        """The plan for ``requests_per_second``. A pass that is cut off finds the answer when it comes again."""
        inputs = inputs_hash(spec=spec, evidence=evidence, classes=classes, requests_per_second=requests_per_second)
        known = self._answers.get(uid)
        if known is None or known[0] != inputs or known[1].cancelled():
            task = asyncio.create_task(self._plan(spec, evidence, classes, requests_per_second))
            known = self._answers[uid] = (inputs, task)
        try:
            return await asyncio.shield(known[1])
        except Exception:
            self._answers.pop(uid, None)  # the queue tries again
            raise

    def keep_only(self, uids: set[str]) -> None:
        """Forget services that are gone."""
        for uid in self._answers.keys() - uids:
            self._answers.pop(uid)[1].cancel()

    async def _plan(
        self,
        spec: CycleServiceSpec,
        evidence: Evidence,
        classes: Mapping[str, HardwareClassSpec],
        requests_per_second: float,
    ) -> Outcome:
        async with self._one_at_a_time:
            result = await asyncio.to_thread(
                ask,
                spec=spec,
                evidence=evidence,
                classes=classes,
                requests_per_second=requests_per_second,
                planner=self._planner,
            )
        return outcome_of(result, spec=spec, evidence=evidence, requests_per_second=requests_per_second)


def inputs_hash(
    *,
    spec: CycleServiceSpec,
    evidence: Evidence,
    classes: Mapping[str, HardwareClassSpec],
    requests_per_second: float,
) -> str:
    """Of everything that a plan depends on. Profiles never change, so their names say enough."""
    model = evidence.model
    content = {
        "spec": spec.model_dump(mode="json", include=_PLANNED),
        "model": model.digest if model is not None else "",
        "profiles": [(profile.metadata.name, profile.metadata.uid) for profile in evidence.profiles],
        "classes": {name: hardware.model_dump(mode="json") for name, hardware in classes.items()},
        "rate": requests_per_second,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
