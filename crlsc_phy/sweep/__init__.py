"""Sweeps: configuration, plan, engine, workers and the folder of results."""
