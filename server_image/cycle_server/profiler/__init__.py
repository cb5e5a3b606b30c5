"""Evaluates and measures variants where they will run, with the engine and the server that will run them."""
