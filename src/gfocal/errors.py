"""Errors that a user can cause. The command line prints a ``GFocalError`` as one line, and a traceback of any other.

Each message names what is wrong (file, record, key or option) and how to fix it. Classes also derive from the builtin
error of their kind, so that ``except ValueError`` around a call of the library catches it too.
"""

from __future__ import annotations

import re

from gfocal.text import one_line, printable

MAX_LENGTH = 3000  # characters of a message: it quotes names, keys and values of untrusted files


class GFocalError(Exception):
    """Base of all errors that a user can cause. The message is one line."""

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(_without_worker_traceback(message), MAX_LENGTH))


def _without_worker_traceback(message: str) -> str:
    """The message of an error of a process that loads images, to which torch adds a traceback."""
    if not message.startswith("Caught ") or "\nOriginal Traceback" not in message:
        return message
    return re.split(r"(?m)^gfocal\.errors\.\w+: ", message)[-1].strip()


class DataError(GFocalError, ValueError):
    """A dataset that cannot be used; the message names the file, the record and the fix, in one line or several."""

    def __init__(self, message: str) -> None:
        super(GFocalError, self).__init__(printable(_without_worker_traceback(message), MAX_LENGTH))


class ImageError(DataError):
    """An image that cannot be read; the message is one line, file and reason."""


class SplitError(DataError):
    """A split that the dataset does not have, or several to choose from; the message lists them."""


class ClassMismatchError(DataError):
    """Classes of the data that are not the expected ones; the message shows both lists."""


class ClampedEdgesError(GFocalError, ValueError):
    """Too many edges of the training boxes lie beyond the regression range of the detector."""


class ConfigError(GFocalError, ValueError):
    """A config that cannot be used; the message names the file, the key and the fix."""


class PresetError(GFocalError, ValueError):
    """A preset that does not exist."""


class WeightsError(GFocalError, RuntimeError):
    """Pretrained weights that are not available or do not fit; the message names the alternatives."""


class ModelFileError(GFocalError, ValueError):
    """A model file that cannot be used; the message names the file and the reason."""


class HubError(GFocalError, ValueError):
    """A model that cannot be downloaded or published; the message says why and what to do."""


class DownloadError(GFocalError, ValueError):
    """Published weights that cannot be downloaded; the message names address, file and what to do by hand."""


class CheckpointImportError(GFocalError, ValueError):
    """A checkpoint that cannot be imported; the message names the file, the tensor and the reason."""


class ResumeError(GFocalError, ValueError):
    """A run that cannot be resumed; the message says why and what to do."""


class RunFolderInUseError(GFocalError, RuntimeError):
    """Another process is training in this run directory."""


class RunWriteError(GFocalError, OSError):
    """A checkpoint cannot be written; the message names the last complete one, and how to resume."""


class NonFiniteLossError(GFocalError, RuntimeError):
    """The loss is NaN or infinite; the message names the terms, the step and the images."""


class NoPositivesError(GFocalError, RuntimeError):
    """No object of a whole epoch was assigned to a point of the detector; the message says what to change."""


class ProcessEndedError(GFocalError, RuntimeError):
    """A process that the run depends on has ended; the message says which, and the likely reason."""


class NonDeterministicOperationError(GFocalError, RuntimeError):
    """A deterministic run met an operation that has no deterministic version on this device; the message names it."""


class DeviceError(GFocalError, ValueError):
    """A device or setting that this machine does not support; the message names the fix."""


class OpenFilesError(GFocalError, OSError):
    """The limit on open files is reached, or too low for what is asked; the message names it."""


class TrackerError(GFocalError, RuntimeError):
    """An experiment tracker that cannot be used; the message says what to install or to fix."""


class CompareError(GFocalError, ValueError):
    """Runs that cannot be compared, mostly a folder without a run; the message names it."""


class LabError(GFocalError, ValueError):
    """The lab cannot do what was asked; the message says what to fix."""


class CalibrationError(GFocalError, ValueError):
    """A model cannot be calibrated on these images: too few right detections, or none with distributions."""


class ExportError(GFocalError, RuntimeError):
    """A model that cannot be exported, or whose file differs from it too much; the message says which and why."""


class MissingExtraError(GFocalError, ImportError):
    """An optional package is not installed; the message names the extra of gfocal that installs it."""
