#!/usr/bin/env bash
# Guess: under "from __future__ import annotations", Annotated[str, Depends(one)] with a function "one" that is local
#   to the function which makes the app works, or raises NameError when the route is declared.
# Behaviour: nothing is raised when the route is declared; the parameter becomes a required query parameter. A request
#   without it gets 422 "Field required", one with it 500; the dependency is never called. The same function at the
#   level of the module is called. A check of a token that is written so refuses everybody, for a reason of its own.
# Versions: fastapi 0.165.0, pydantic 2.14.4, httpx 0.28.1. Source: the results below. Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check fastapi==0.165.0 pydantic==2.14.4 httpx==0.28.1
cd "$place"
"$place/venv/bin/python" - <<'PY'
from __future__ import annotations

from typing import Annotated

import fastapi
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

called = []

def at_module_level() -> str:
    called.append("module")
    return "value"

def make_app() -> FastAPI:
    app = FastAPI()

    def local() -> str:
        called.append("local")
        return "value"

    @app.get("/local")
    def with_local(one: Annotated[str, Depends(local)]) -> str:
        return one

    @app.get("/module")
    def with_module(one: Annotated[str, Depends(at_module_level)]) -> str:
        return one

    return app

client = TestClient(make_app(), raise_server_exceptions=False)
answers = {path: client.get(path) for path in ("/module", "/local", "/local?one=value")}
print("fastapi", fastapi.__version__)
for path, answer in answers.items():
    print(path, answer.status_code, answer.text[:90])
print("called:", called)
assert [answer.status_code for answer in answers.values()] == [200, 422, 500], answers
assert answers["/local"].json()["detail"][0]["loc"] == ["query", "one"] and called == ["module"], called
PY
