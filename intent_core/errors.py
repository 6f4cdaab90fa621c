"""The error tree. The branch answers one question: is it worth a retry?

    IntentError
      ConfigError (ValueError)      the recipe or a setting is wrong: fix it, do not retry
      DataError (ValueError)        the export or the dataset is wrong
        CallSyntaxError             a call such as `weather_search(Hangzhou` does not parse
      TrainingError (RuntimeError)  the training program failed; carries its last lines
      ServiceError                  an outside system failed: worth a retry
        StorageError  TrackingError  ServingError
          PromotionInProgressError  (ServingError) wait, then try again

Every error pickles (Prefect and multiprocessing send them between processes), so
none has an `__init__` of its own. A message says what, which, where and what to do.
"""


class IntentError(Exception):
    """Root of every error this project raises on purpose."""


class ConfigError(IntentError, ValueError):
    """The recipe or a setting is wrong. Fix it; a retry cannot help."""


class DataError(IntentError, ValueError):
    """The export or the dataset is wrong. Fix the data; a retry cannot help."""


class CallSyntaxError(DataError):
    """A text is not a list of calls; the message says where it stops being one."""


class TrainingError(IntentError, RuntimeError):
    """The training program failed. The message carries its last lines."""


class ServiceError(IntentError):
    """An outside system failed or could not be reached. Worth a retry."""


class StorageError(ServiceError):
    """The object store failed."""


class TrackingError(ServiceError):
    """MLflow failed."""


class ServingError(ServiceError):
    """The model server or the gateway before it failed."""


class PromotionInProgressError(ServingError):
    """Another promotion or rollback is moving the served model now."""
