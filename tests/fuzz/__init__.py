"""Damaged and hostile files for every reader: the ordinary tests, and ``python -m tests.fuzz``."""
