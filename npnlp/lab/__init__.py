"""The long-term-dependency lab: tasks, starts and comparisons that only experiments use."""
