"""The server image: engine, batching, Open Inference Protocol v2, cache sidecar, profiler, load generator."""
