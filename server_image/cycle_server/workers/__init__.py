"""Several processes that compute in one pod: one that loads the variant and forks the others, which share its memory.

``template.py`` and ``worker.py`` run in those processes; ``pool.py`` runs in the front, which never imports torch.
docs/notes/2026-11-25-workers.md says why so.
"""
