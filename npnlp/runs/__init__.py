"""A run in a folder: checkpoint, report, model card and fingerprint."""
