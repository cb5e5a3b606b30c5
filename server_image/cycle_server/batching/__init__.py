"""Which requests run together, and when: ``policy`` and ``cost`` are pure, ``batcher`` has the compute thread."""
