"""CycleJob: gather (I/O) -> policies and desired children -> status (all pure)."""
