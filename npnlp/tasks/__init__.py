"""Made-up sequences whose answer lies far back. One file a task.

They measure how far a recurrent network remembers: the length ``T`` is free, the loss of a
predictor without memory is known exactly, and nothing else in the sequence helps.
"""

from npnlp.tasks.adding import Adding
from npnlp.tasks.base import Floats, Targets, Task
from npnlp.tasks.copy import Copy
from npnlp.tasks.first_token import FirstToken
from npnlp.tasks.middle_token import MiddleToken
from npnlp.tasks.temporal_order import TemporalOrder

#: Every task, by name.
TASKS: dict[str, Task] = {
    task.name: task for task in (Adding(), Copy(), TemporalOrder(), FirstToken(), MiddleToken())
}

__all__ = [
    "TASKS",
    "Adding",
    "Copy",
    "FirstToken",
    "Floats",
    "MiddleToken",
    "Targets",
    "Task",
    "TemporalOrder",
]
