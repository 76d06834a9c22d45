"""Made-up sequences whose answer lies far back. One file a task.

They measure how far a recurrent network remembers: the length ``T`` is free, the loss of a
predictor without memory is known exactly, and nothing else in the sequence helps.
"""

from npnlp.lab.tasks.adding import Adding
from npnlp.lab.tasks.base import Floats, Targets, Task
from npnlp.lab.tasks.copy import Copy
from npnlp.lab.tasks.first_token import FirstToken
from npnlp.lab.tasks.middle_token import MiddleToken
from npnlp.lab.tasks.temporal_order import TemporalOrder

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
