"""What the operator and the images agree on, in one place.

- ``parts``:    pieces of a CycleJob's spec that the images read as they are (variants, training, evaluation, profiling)
- ``training``: the file a trainer pod reads
- ``serving``:  the files a server pod, its cache sidecar and a profiling pod read
- ``variant``:  the manifest written beside every variant's weights
- ``profile``:  one variant measured on one hardware class
- ``metrics``:  the metrics of each task, and which way is better
- ``reports``:  what pods say to the operator; ``sender`` delivers it
"""
