"""Threads that share the units or the sequences of a layer."""
