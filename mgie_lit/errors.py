"""Errors that a user can cause; each message says what was expected, what was found and what to do."""


class MGIEError(Exception):
    """Base of all errors that the user can repair; commands print it and exit with status 2."""


class ConfigError(MGIEError):
    """A config key, value or combination that can not be used."""


class DataError(MGIEError):
    """A data set, annotation or image file that can not be read."""


class CheckpointError(MGIEError):
    """A run directory, checkpoint or export that can not be loaded."""


class TrainingError(MGIEError):
    """A training that could not go on: its numbers, memory or disk, or a process that it lost."""
