"""The command line: ``cycleops plan`` on a laptop, ``cycleops crds`` and ``cycleops operator`` in images."""
