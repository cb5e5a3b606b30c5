"""CycleOps: a Kubernetes operator for the compute cycle of a model. Never imports torch."""
