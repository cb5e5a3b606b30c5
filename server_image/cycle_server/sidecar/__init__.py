"""The cache in front of a server, in the same pod. Nothing here imports torch: its memory is the cache's."""
