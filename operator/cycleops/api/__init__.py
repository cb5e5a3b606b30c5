"""The API of group cycleops.dev: pydantic models of the four kinds, their conditions and reasons.

The models are the only source: ``crd.py`` writes the CustomResourceDefinitions from them and ``reference.py`` the
reference. Imports nothing of ours but the wire contract.
"""

GROUP = "cycleops.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
