"""The service does what its OpenAPI says, for requests that schemathesis makes up, right ones and wrong ones."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("schemathesis", reason="needs the package schemathesis, of the extra test")

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from served import TOKEN, encode, make_image, make_model
from test_connections import running

IMAGES = [encode(make_image(width, 60), kind) for width, kind in ((80, "PNG"), (90, "JPEG"), (60, "WEBP"))]
# Images for where the schema wants some; among other texts and bytes that schemathesis makes up itself.
schemathesis.openapi.media_type("image/*", st.sampled_from(IMAGES))
schemathesis.openapi.format("byte", st.sampled_from([base64.b64encode(one).decode() for one in IMAGES]))


PATHS = ("/detect", "/model", "/health", "/ready", "/metrics")


@pytest.fixture(scope="module")
def described() -> Iterator[Any]:
    with running(make_model(), token=TOKEN) as (port, _):
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")


def test_the_addresses_are_those_that_are_tested(described: Any) -> None:
    assert {one.ok().path for one in described.get_all_operations()} == set(PATHS)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_every_address_keeps_to_its_description(described: Any, path: str, mode: Any) -> None:
    operation = described[path]["POST" if path == "/detect" else "GET"]

    @settings(
        max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
    )
    @given(operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"})

    try:
        check()
    except Unsatisfiable:
        assert mode is schemathesis.GenerationMode.NEGATIVE, "nothing can be wrong with a request without parameters"
