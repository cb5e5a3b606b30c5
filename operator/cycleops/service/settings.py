"""What the operator's settings mean for a service's children."""

from dataclasses import dataclass

from cycleops.api.cycleservice import CycleServiceSpec
from cycleops.api.hardwareclass import HardwareClassSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Images of the chart, which a HardwareClass and then a service's spec override."""

    server_image: str
    balancer_image: str
    cache_image: str
    report_url: str  # where measuring pods report to
    cluster_domain: str = "cluster.local"

    def server_of(self, spec: CycleServiceSpec, hardware: HardwareClassSpec) -> str:
        of_spec = spec.images.server if spec.images else None
        of_class = hardware.images.server if hardware.images else None
        return of_spec or of_class or self.server_image

    def balancer_of(self, spec: CycleServiceSpec) -> str:
        return (spec.images.balancer if spec.images else None) or self.balancer_image

    def cache_of(self, spec: CycleServiceSpec) -> str:
        return (spec.images.cache if spec.images else None) or self.cache_image
