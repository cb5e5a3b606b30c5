"""An open-loop load generator: arrivals don't wait for answers, and latency counts from the intended moment."""
