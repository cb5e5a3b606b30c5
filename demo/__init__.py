"""`make demo`: the whole path on a real cluster, from training data to answered requests."""
