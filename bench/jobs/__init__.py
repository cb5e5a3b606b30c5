"""How fast and how cheaply an operator makes a job's children: ours beside mpi-operator, on the same API server."""
