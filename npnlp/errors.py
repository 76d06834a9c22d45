"""Errors that a person can mend. The command line prints them as one line, with status 2."""


class InputError(ValueError):
    """A file, a row, a value or an argument is not what it has to be.

    The message names the file, the row and the column (or the argument) and what to do.
    """


class DeviceError(RuntimeError):
    """The backend that was asked for cannot be used here; the message says why and what to do."""


class DivergenceError(RuntimeError):
    """Training produced a loss that is not a finite number."""
