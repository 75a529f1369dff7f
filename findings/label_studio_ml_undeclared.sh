#!/usr/bin/env bash
# Guess: label-studio-ml of the Python Package Index imports once pip has installed what it declares.
# Behaviour: label_studio_ml.api needs rq and redis, which are not among its requirements: ModuleNotFoundError. With
#   both installed it imports. 1.0.9 is the newest release there; the maintained 2.x is in its repository alone.
# Versions: label-studio-ml 1.0.9 (setuptools 80, for its pkg_resources). Source: the results below. Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" --quiet --disable-pip-version-check "$@"; }
pip install setuptools==80.9.0 label-studio-ml==1.0.9
cd "$place"
import_it() { "$place/venv/bin/python" -W ignore -c "import label_studio_ml.api" 2>&1 | tail -1; }
"$place/venv/bin/python" - <<'PY'
from importlib.metadata import requires, version
print("label-studio-ml", version("label-studio-ml"), "declares", sorted(requires("label-studio-ml")))
assert not any(name.startswith(("rq", "redis")) for name in requires("label-studio-ml"))
PY
before=$(import_it || true)
pip install rq redis
after=$(import_it || true)
echo "as installed: ${before:-imports}"
echo "with rq and redis: ${after:-imports}"
[[ $before == "ModuleNotFoundError: No module named 'rq'" && -z $after ]]
