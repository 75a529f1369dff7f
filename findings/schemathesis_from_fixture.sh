#!/usr/bin/env bash
# Guess: the documented way to test a schema that a pytest fixture gives, schemathesis.pytest.from_fixture, works with
#   the pytest that pip installs beside schemathesis.
# Behaviour: under pytest 9.2 the test fails before its first request: AttributeError, 'Function' object has no
#   attribute '_nodeid'. The same test with the schema made at the level of the module passes.
# Versions: schemathesis 4.32.5, pytest 9.2.0, hypothesis 6.170.17, fastapi 0.165.0. Source: the results below.
#   Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check schemathesis==4.32.5 pytest==9.2.0 hypothesis==6.170.17 fastapi==0.165.0
cd "$place"
cat >test_ways.py <<'PY'
import pytest
import schemathesis
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def show() -> int:
    return 1


@pytest.fixture
def described():
    return schemathesis.openapi.from_asgi("/openapi.json", app)


of_fixture = schemathesis.pytest.from_fixture("described")
of_module = schemathesis.openapi.from_asgi("/openapi.json", app)


@of_fixture.parametrize()
def test_of_fixture(case):
    case.call_and_validate()


@of_module.parametrize()
def test_of_module(case):
    case.call_and_validate()
PY
"$place/venv/bin/pip" list --format freeze 2>/dev/null | grep -E "^(schemathesis|pytest|hypothesis)=="
"$place/venv/bin/python" -m pytest -q -p no:cacheprovider test_ways.py >log 2>&1 || true
grep -E "^(E  .*Error|FAILED|[0-9]+ (passed|failed))" log
grep -q "AttributeError: 'Function' object has no attribute '_nodeid'" log
grep -q "FAILED test_ways.py::test_of_fixture" log
grep -q "1 failed, 1 passed" log
