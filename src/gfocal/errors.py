"""Errors that a user can cause. The command line prints a ``GFocalError`` as one line and shows a traceback of all else.

Each message names what is wrong (file, record, key or option) and how to fix it. A class also derives from the builtin
error that its kind is known as, so that ``except ValueError`` around a call of the library goes on to work.
"""

from __future__ import annotations

from gfocal.text import printable


class GFocalError(Exception):
    """Base of all errors that a user can cause."""


class DataError(GFocalError, ValueError):
    """A dataset that cannot be used; the message names the file, the record and the fix."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, most=3000))  # it quotes names of classes and files, which are untrusted


class ImageError(DataError):
    """An image that cannot be read; the message is one line, file and reason."""


class ClampedEdgesError(GFocalError, ValueError):
    """Too many edges of the training boxes lie beyond the regression range of the detector."""


class ConfigError(GFocalError, ValueError):
    """A config that cannot be used; the message names the file, the key and the fix."""


class PresetError(GFocalError, ValueError):
    """A preset that does not exist."""


class WeightsError(GFocalError, RuntimeError):
    """Pretrained weights that cannot be had or do not fit; the message names the ways out."""


class ModelFileError(GFocalError, ValueError):
    """A model file that cannot be used; the message names the file and the reason."""


class HubError(GFocalError, ValueError):
    """A model that cannot be downloaded or published; the message says why and what to do."""


class CheckpointImportError(GFocalError, ValueError):
    """A checkpoint that cannot be imported; the message names the file, the tensor and the reason."""


class ResumeError(GFocalError, ValueError):
    """A run that cannot be resumed; the message says why and what to do."""


class RunFolderInUseError(GFocalError, RuntimeError):
    """Another process is training in this run directory."""


class RunWriteError(GFocalError, OSError):
    """A checkpoint could not be written; the message says what the last whole one is, and how to resume."""


class NonFiniteLossError(GFocalError, RuntimeError):
    """The loss became NaN or infinite; the message names the terms, the step and the images."""


class NoPositivesError(GFocalError, RuntimeError):
    """No object of a whole epoch was assigned to a point of the detector; the message says what to change."""


class ProcessEndedError(GFocalError, RuntimeError):
    """A process that the run depends on has ended; the message says which, and the likely reason."""


class NonDeterministicOperationError(GFocalError, RuntimeError):
    """A deterministic run met an operation that has no deterministic version on this device; the message names it."""


class DeviceError(GFocalError, ValueError):
    """Settings that this machine cannot compute with; the message names the fix."""


class TrackerError(GFocalError, RuntimeError):
    """An experiment tracker that cannot be used; the message says what to install or to fix."""


class CompareError(GFocalError, ValueError):
    """A folder that holds no run; the message names it."""


class LabError(GFocalError, ValueError):
    """The lab cannot do what was asked; the message says what to fix."""


class MissingExtraError(GFocalError, ImportError):
    """An optional package is not installed; the message names the extra of gfocal that brings it."""
