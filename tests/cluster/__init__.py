"""A real Kubernetes to test on: starts one, builds the project's images and loads them.

`python -m tests.cluster up|down|status|images|env|host`; pytest uses `tests.cluster.fixtures`.
"""
