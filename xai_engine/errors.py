"""Errors that users may meet. Each carries the command line's exit code and a one-line message.

A message names the file or object, says what is wrong and what to do, and never holds patient data.
"""

from __future__ import annotations


class RadiolucentError(Exception):
    """Base of every error that is shown to a user as one line. Exit code 1."""

    exit_code = 1


class UsageError(RadiolucentError):
    """The request itself is wrong (unknown method, bad parameter value). Exit code 2."""

    exit_code = 2


class UnreadableImage(RadiolucentError):
    """The file is no image that this program can read. Exit code 3."""

    exit_code = 3


class RefusedImage(RadiolucentError):
    """The image was read but the classifier must not judge it. Exit code 3."""

    exit_code = 3


class ModelError(RadiolucentError):
    """A model bundle is missing, altered or unfit for the request. Exit code 4."""

    exit_code = 4


class UnsupportedModel(ModelError):
    """A method cannot explain this architecture; the message names the layer. Exit code 4."""


class Cancelled(RadiolucentError):
    """The user stopped the job. Exit code 5."""

    exit_code = 5


class OutputError(RadiolucentError):
    """Results cannot be written (no permission, disk full). Exit code 1."""


class WorkerDied(RadiolucentError):
    """A worker process ended while it had a job; only that job is lost. Exit code 1."""
