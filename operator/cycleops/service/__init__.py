"""CycleService: gather (I/O) -> policies and desired children (pure) -> apply -> one status write."""
