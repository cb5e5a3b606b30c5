"""torch.compile against the eager packed engine."""
