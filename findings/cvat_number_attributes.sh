#!/usr/bin/env bash
# Guess: a CVAT attribute of input type "number" whose values (lowest, highest, step) are 0, 1 and 0.01 holds a
#   score such as 0.87, as a slider of these values would.
# Behaviour: number attributes are whole numbers. The SDK's own validator raises ValueError for the step 0.01, and with
#   the step 1 it refuses 0.87 and takes 0 and 1. A score goes into a text attribute, or into a number of per cent.
# Versions: cvat-sdk 2.80.0. Source: the results below. Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check cvat-sdk==2.80.0
cd "$place"
"$place/venv/bin/python" - <<'PY'
from importlib.metadata import version

from cvat_sdk import models
from cvat_sdk.attributes import attribute_value_validator

print("cvat-sdk", version("cvat-sdk"))

def accepts(values, value, kind="number"):
    spec = models.AttributeRequest(name="score", mutable=False, input_type=kind, values=values)
    try:
        return attribute_value_validator(spec)(value)
    except ValueError as error:
        return f"ValueError: {error}"

hundredths = accepts(["0", "1", "0.01"], "0.87")
whole = [accepts(["0", "1", "1"], value) for value in ("0", "1", "0.87")]
per_cent = accepts(["0", "100", "1"], "87")
text = accepts([], "0.87", kind="text")
print("number 0..1 in steps of 0.01, value 0.87:", hundredths)
print("number 0..1 in steps of 1, values 0, 1, 0.87:", whole)
print("number 0..100, value 87:", per_cent, "; text, value 0.87:", text)
assert str(hundredths).startswith("ValueError") and whole == [True, True, False] and per_cent and text
PY
