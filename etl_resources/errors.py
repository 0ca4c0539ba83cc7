"""One error root, three kinds: what may be retried, what must not, and what has to be settled first (A4)."""

from collections.abc import Iterable


class DataPipelineError(Exception):
    """Root of every error that this product raises on purpose. Its message: what, which one, what next."""


class TransientError(DataPipelineError):
    """The same call may succeed later: connection lost, time-out, conflict. Retried."""


class RestartError(TransientError):
    """A call alone can't be tried again, or no longer: the whole step may start again, with a new attempt."""


class RetryBudgetError(TransientError):
    """The run has spent its retries. Nothing is tried again in it; a later run may succeed."""


class PermanentError(DataPipelineError):
    """The same call fails again until somebody changes something. Never retried."""


class UnknownCommitError(DataPipelineError):
    """A commit was sent and no answer came: settle it by reading the run token back, never by resending."""


class ManifestError(PermanentError):
    """A manifest, or a SQL file that it names, is wrong. Carries file and line."""

    def __init__(self, message: str, *, file: str, line: int | None = None) -> None:
        self.message, self.file, self.line = message, file, line
        super().__init__(f"{file}:{line}: {message}" if line else f"{file}: {message}")


class ManifestErrors(PermanentError):  # noqa: N818  (plural: it holds ManifestError)
    """Everything that is wrong with one file or with the whole project, found in one pass; one line each."""

    def __init__(self, errors: Iterable[ManifestError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(e) for e in self.errors))


class SettingsError(PermanentError):
    """A setting or secret is missing or unusable."""


class FencedError(PermanentError):
    """This attempt lost its right to publish: a newer epoch is published, or recovery dropped its branch."""
