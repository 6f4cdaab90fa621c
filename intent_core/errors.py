"""The error classes. The branch of the tree decides whether a retry can help.

    IntentError
      ConfigError (ValueError)      the recipe or a setting is wrong: fix it, do not retry
      DataError (ValueError)        the export or the dataset is wrong: fix it, do not retry
        CallSyntaxError             a call such as `weather_search(Hangzhou` does not parse
      TrainingError (RuntimeError)  the training program failed; contains its last log lines
      ServiceError                  an external system failed: retry
        StorageError  TrackingError  ServingError
          PromotionInProgressError  (ServingError) wait, then retry
          LoginRefusedError         (TrackingError, ConfigError) set another login, do not retry

Prefect and multiprocessing pickle errors to send them between processes. An `__init__` with other
parameters would break that, so no class defines one. A message states what is wrong, the value,
the place and what to do.
"""


class IntentError(Exception):
    """Root of every error this project raises on purpose."""


class ConfigError(IntentError, ValueError):
    """The recipe or a setting is wrong. Fix it; a retry does not help."""


class DataError(IntentError, ValueError):
    """The export or the dataset is wrong. Fix the data; a retry does not help."""


class CallSyntaxError(DataError):
    """A text is not a list of calls; the message gives the column of the syntax error."""

    def __init__(self, message: str, *, is_at_end: bool = False) -> None:
        super().__init__(message)
        self.is_at_end = is_at_end
        """Whether the text is right as far as it goes."""


class TrainingError(IntentError, RuntimeError):
    """The training program failed. The message contains its last log lines."""


class ServiceError(IntentError):
    """An external system failed or could not be reached. Retry."""


class StorageError(ServiceError):
    """The object store failed."""


class TrackingError(ServiceError):
    """MLflow failed."""


class LoginRefusedError(TrackingError, ConfigError):
    """MLflow refused our login, or its user lacks a permission. A retry does not help."""


class ServingError(ServiceError):
    """The model server or its gateway failed."""


class PromotionInProgressError(ServingError):
    """Another promotion or rollback is in progress. Wait, then retry."""
