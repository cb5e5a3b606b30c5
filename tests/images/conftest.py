"""On the host only test_inside.py is collected: it runs the folders beside it inside their images, where torch is."""

import os

collect_ignore = [] if os.environ.get("CYCLEOPS_INSIDE_IMAGE") else ["server", "clients", "trainer"]
