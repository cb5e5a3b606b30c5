"""What is deployed, written on the server Deployment itself.

The plan in ``status`` can differ from what serves: with mode Recommend, and while a new budget has no feasible plan.
What serves must then be kept and repaired, so it is recorded where it is: in an annotation of our own child.
"""

from collections.abc import Mapping

from pydantic import Field, ValidationError

from cycle_wire.base import WireModel
from cycleops.api.cycleservice_status import Plan, ServedModel
from cycleops.controller.store import Facts

ANNOTATION = "cycleops.dev/deployed"


class Deployed(WireModel):
    """All that the server pods depend on besides the spec, the HardwareClass and the images."""

    model_uri: str
    model_digest: str
    variant: str
    hardware: str
    batch_size: int
    delay_milliseconds: float
    replicas: int
    batch_invariant: bool
    requests_per_second: float = Field(description="The rate that was planned for.")
    budget_milliseconds: float = Field(description="What servers shed by. A new budget without a plan changes nothing.")
    target_milliseconds: float = Field(1000.0, description="The latency budget: histograms of T are fine around it.")

    def is_like(self, other: "Deployed") -> bool:
        """Whether a pod of one is a pod of the other: only their number and the rate they are for may differ."""
        return self == other.model_copy(
            update={"replicas": self.replicas, "requests_per_second": self.requests_per_second}
        )

    def serves(self, plan: Plan, model: ServedModel) -> bool:
        """Whether this is what ``plan`` asks for."""
        return self == of_plan(
            plan,
            model=model,
            batch_invariant=self.batch_invariant,
            requests_per_second=self.requests_per_second,
            budget_milliseconds=self.budget_milliseconds,
            target_milliseconds=self.target_milliseconds,
        )


def of_plan(
    plan: Plan,
    *,
    model: ServedModel,
    batch_invariant: bool,
    requests_per_second: float,
    budget_milliseconds: float,
    target_milliseconds: float,
) -> Deployed:
    return Deployed(
        model_uri=model.uri,
        model_digest=model.digest,
        variant=plan.variant,
        hardware=plan.hardware,
        batch_size=plan.batch_size,
        delay_milliseconds=plan.delay_milliseconds,
        replicas=plan.replicas,
        batch_invariant=batch_invariant,
        requests_per_second=requests_per_second,
        budget_milliseconds=budget_milliseconds,
        target_milliseconds=target_milliseconds,
    )


def read_deployed(children: Mapping[tuple[str, str], Facts], *, service: str) -> Deployed | None:
    """What the server Deployment says; None when there is none, or when someone spoilt its annotation."""
    facts = children.get(("Deployment", f"{service}-server"))
    if facts is None or facts.deleting:
        return None
    text = facts.body["metadata"].get("annotations", {}).get(ANNOTATION)
    if text is None:
        return None
    try:
        return Deployed.model_validate_json(text)
    except ValidationError:
        return None
