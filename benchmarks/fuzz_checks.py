"""Checks of a reader's result: valid data or a clear DataError, nothing else, and in limited time."""

from __future__ import annotations

import os
import re
import signal
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np
import yaml

from fuzz_grammar import SECRET
from fuzz_pool import CRASH, HANG, INVALID, UNCLEAR
from gfocal.data.dataset import FileData
from gfocal.data.validation import summarize
from gfocal.errors import DataError

MAX_LENGTH, MAX_LIST_LENGTH, MAX_PROBLEM_LENGTH = 600, 3000, 1100  # characters of a message without the path
_LISTS = ("classes differ", "was looked for", "there are:", "Looked for", "expected", "parses as none of them")
_LISTED_IN_LINES = ("Looked for", "parses as none of them")  # a line for each format
# Characters that control a terminal, hide parts of a text or cannot be printed.
_SIGNS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class FindingError(Exception):
    """A case that is a finding: ``args`` are its kind and a text."""


class AlarmError(BaseException):
    """Raised by the alarm; not an ``Exception``, so that no reader catches it."""


def check_reader(
    read: Callable[[], FileData], home: Path, size: tuple[int, int]
) -> tuple[FileData | None, Counter[str]]:
    """Call a reader. Returns its data, None if it raised DataError, and its messages. Raises FindingError.

    ``home`` is the data folder, which every message must name and every image must be in; ``size`` is the height and
    width of every image there.
    """
    try:
        data = read()
    except DataError as error:
        check_message(str(error), home)
        return None, Counter([normalize_message(str(error), home)])
    except AlarmError:
        raise FindingError(HANG, "the alarm rang") from None
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)
        ours = next((f for f in reversed(place) if "gfocal" in f.filename), place[-1])
        text = f"{type(error).__name__}: {str(error)[:200]!r} at {os.path.basename(ours.filename)}:{ours.lineno}"
        raise FindingError(CRASH, text) from error
    check_data(data, home, size)
    messages: Counter[str] = Counter()
    for problem in data.problems:
        check_message(str(problem), home, MAX_PROBLEM_LENGTH)
        messages[f"({problem.action}) {normalize_message(problem.reason, home)}"] += 1
    for line in summarize(data.problems):
        check_message(line, home, MAX_PROBLEM_LENGTH)
    repr(data)
    return data, messages


def check_message(message: str, home: Path, limit: int = MAX_LENGTH) -> None:
    """Raise FindingError unless a message names the file and a reason, in one line of printable text."""
    rest = message.replace(str(home), "")
    signs = rest.replace("\n", "") if any(word in rest for word in _LISTED_IN_LINES) else rest
    limit = MAX_LIST_LENGTH if any(word in message for word in _LISTS) else limit
    faults = {
        "does not name the file": rest == message,
        "is too long": len(rest) > limit,
        "has a character that terminals must not get": bool(_SIGNS.search(signs)),
        "gives no reason": len(re.findall("[a-z]{2}", rest)) < 3 or (limit == MAX_LENGTH and rest.endswith(": ")),
        "is a traceback": "Traceback" in message,
        "shows the content of a file outside the folder": SECRET in message,
    }
    for fault, true in faults.items():
        if true:
            raise FindingError(UNCLEAR, f"message {fault}: {message[:1500]!r} ({len(message)} characters)")


def normalize_message(message: str, home: Path) -> str:
    """A message without path, numbers and quoted words, to count messages of the same kind."""
    text = re.sub(f"{re.escape(str(home))}[^ :]*", "FILE", message)
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'..'", text)
    return re.sub(r"\d+(\.\d+)?", "#", text)[:100]


def check_data(data: FileData, home: Path, size: tuple[int, int]) -> None:
    """Raise FindingError unless every number of a dataset can be used for training."""
    height, width = size
    classes = len(data.names)
    checks: dict[str, bool] = {
        "there are images": len(data) > 0 and len(data.samples) == len(data),
        "names are strings": all(isinstance(name, str) for name in data.names) and classes > 0,
        "category ids are unique integers": all(type(c) is int for c in data.category_ids)
        and len(set(data.category_ids)) == len(data.category_ids) == classes,
        "no class name contains the secret": not any(SECRET in name for name in data.names),
    }
    ids: list[object] = []
    roots = tuple(place + os.sep for place in image_roots(home))
    for sample in data.samples:
        boxes, labels, crowd = sample.boxes.numpy(), sample.labels.numpy(), sample.crowd.numpy()
        count = len(labels)
        ids.append(sample.image_id)
        checks["shapes and types"] = (
            boxes.shape == (count, 4)
            and crowd.shape == (count,)
            and (boxes.dtype, labels.dtype, crowd.dtype) == (np.float32, np.int64, np.bool_)
        )
        checks["the size is the image's"] = sample.size == size
        checks["the image is in the folder"] = sample.path is not None and os.path.realpath(sample.path).startswith(
            roots
        )
        if count:
            x1, y1, x2, y2 = boxes.T
            inside = (x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height) & (x1 < x2) & (y1 < y2)
            checks["boxes are in the image and have an area"] = bool(inside.all())  # false for NaN
            checks["labels are of classes"] = bool(((labels >= 0) & (labels < classes)).all())
        if sample.areas is not None:
            areas = sample.areas.numpy()
            known = areas[~np.isnan(areas)]
            fine = areas.shape == (count,) and bool((np.isfinite(known) & (known > 0)).all())
            checks["areas are positive or not stated"] = fine
        if not all(checks.values()):
            break
    checks["image ids are unique integers"] = all(type(i) is int for i in ids) and len(set(ids)) == len(ids)
    for check, holds in checks.items():
        if not holds:
            raise FindingError(INVALID, f"not true: {check}; {data!r}"[:500])


def image_roots(home: Path) -> list[str]:
    """Folders that may contain images: that of the data, and ``path:`` of its yaml, which may be outside."""
    try:
        stated = yaml.safe_load((home / "data.yaml").read_text(encoding="utf-8-sig")).get("path")
        return [os.path.realpath(home), os.path.realpath(home / str(stated or "."))]
    except Exception:  # a broken yaml has no path
        return [os.path.realpath(home)]


def _on_alarm(_: int, __: FrameType | None) -> None:
    """Signal handler."""
    raise AlarmError


def install_alarm() -> None:
    """Install the handlers of the alarm in this process."""
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.signal(signal.SIGPROF, _on_alarm)


def set_alarm(seconds: float) -> None:
    """Raise AlarmError after so many seconds of processor time, or ten times as many of wall time; 0 turns it off.

    So a hang is detected even if it takes no processor time, and other busy programs cause no finding.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
