"""Training processes that end, or whose disk fails, at every file operation.

Each module here is a program of one thread, which forks a warm process for every point: an
interpreter a point would take hours, and pytest's own process has threads.
``tests/runs/test_crash.py`` and ``tests/runs/test_disk_faults.py`` start them. They need POSIX.
"""
