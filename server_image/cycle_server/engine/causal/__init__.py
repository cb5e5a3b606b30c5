"""The engine for causal language models: ``load`` -> ``model`` (one step for many sequences) over ``paged`` memory.

Decoding in time (who takes part in a step) is cycle_server.batching.generation's.
"""
