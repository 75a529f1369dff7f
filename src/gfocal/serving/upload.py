"""The images of a request: multipart or json, within bounds of bytes and seconds."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from gfocal.data.images import EncodedImage
from gfocal.serving.bounds import MIB, Bounds
from gfocal.serving.form import Form, FormError, TooManyPartsError
from gfocal.text import one_line

MAX_NAME = 200  # characters of a file's name that are kept
FIELD = "images"  # of a form
_UNKNOWN_FIELD = (
    "no such field; there is images, and parameters stand in the address: /detect?score_threshold=0.5",
    "no such field; an image has data and name",
)
GONE = 499  # a client that left; it gets no answer, but is counted


class JsonImage(BaseModel):
    """An image file in a request of json."""

    model_config = ConfigDict(extra="forbid")

    data: str = Field(
        description="the content of a JPEG, PNG, WebP, ... file in base64",
        json_schema_extra={"format": "byte", "contentEncoding": "base64"},
    )
    name: str = Field("", description="by which the answer names it")


class JsonRequest(BaseModel):
    """The body of ``POST /detect`` as json."""

    model_config = ConfigDict(extra="forbid")

    images: list[JsonImage] = Field(min_length=1)


@dataclass
class Receiving:
    """The bytes of requests that are being received, of the whole service."""

    num_bytes: int = 0


class Body:
    """The body of one request, counted while it arrives."""

    def __init__(self, request: Request, bounds: Bounds, receiving: Receiving) -> None:
        self.request, self.bounds, self.receiving = request, bounds, receiving
        self.num_bytes = 0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The parts of the body. Raises HTTPException 413 and 503 beyond the bounds."""
        stated = self.request.headers.get("content-length", "")
        if stated.isdecimal() and (len(stated) > 18 or int(stated) > self.bounds.max_body):
            raise self._too_large()
        async for chunk in self.request.stream():
            self.num_bytes += len(chunk)
            self.receiving.num_bytes += len(chunk)
            if self.num_bytes > self.bounds.max_body:
                raise self._too_large()
            if self.receiving.num_bytes > self.bounds.max_bodies:
                raise HTTPException(503, "too many bytes are being received at once", {"Retry-After": "1"})
            yield chunk

    def release(self) -> None:
        """The body is no longer held."""
        self.receiving.num_bytes -= self.num_bytes
        self.num_bytes = 0

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"a request has at most {self.bounds.max_body / MIB:g} MiB")


async def receive_images(body: Body) -> list[EncodedImage]:
    """The images of a request.

    Raises:
        HTTPException: 400 for a body that is not what it says; 408 where it does not arrive in time; 413 where it is
            too large, or has too many images; 415 for another content type; 422 for json of another shape; ``GONE``
            where the client leaves.
    """
    kind = body.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body.request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "send the body without a content encoding")
    if kind == "multipart/form-data":
        receive = _receive_form(body)
    elif kind == "application/json":
        receive = _receive_json(body)
    else:
        raise HTTPException(415, f"send multipart/form-data or application/json, not {one_line(kind, 80)!r}")
    try:
        images = await asyncio.wait_for(receive, body.bounds.body_seconds)
    except asyncio.TimeoutError:  # not TimeoutError: another class until Python 3.11
        seconds = f"{body.bounds.body_seconds:g}"
        raise HTTPException(408, f"the request did not arrive in {seconds} seconds") from None
    except ClientDisconnect:
        raise HTTPException(GONE, "the client left") from None
    if not images:
        raise HTTPException(422, f"no images: send files in the field {FIELD!r}")
    if len(images) > body.bounds.max_images:
        raise _too_many(body.bounds)
    return images


async def _receive_form(body: Body) -> list[EncodedImage]:
    try:
        form = Form(body.request.headers["content-type"], body.bounds.max_images)
        async for chunk in body.chunks():
            form.feed(chunk)
        parts = form.finish()
    except TooManyPartsError:
        raise _too_many(body.bounds) from None
    except FormError as error:
        raise HTTPException(400, f"a broken form: {one_line(str(error), 200)}") from None
    for part in parts:
        if part.name != FIELD:
            raise HTTPException(422, f"the form has a field {one_line(part.name, 80)!r}: send files in {FIELD!r}")
    return [EncodedImage(bytes(part.content), _name(part.filename, i)) for i, part in enumerate(parts)]


async def _receive_json(body: Body) -> list[EncodedImage]:
    parts = [chunk async for chunk in body.chunks()]
    return await run_in_threadpool(_parse_json, b"".join(parts), body.bounds)


def _parse_json(text: bytes, bounds: Bounds) -> list[EncodedImage]:
    try:
        request = JsonRequest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        status = 400 if first["type"] == "json_invalid" else 422
        reason = _UNKNOWN_FIELD[len(first["loc"]) > 1] if first["type"] == "extra_forbidden" else first["msg"]
        raise HTTPException(status, one_line(f"{place}: {reason}".removeprefix(": "), 300)) from None
    if len(request.images) > bounds.max_images:
        raise _too_many(bounds)
    images: list[EncodedImage] = []
    for i, image in enumerate(request.images):
        try:
            content = base64.b64decode(image.data, validate=True)
        except (binascii.Error, ValueError):
            raise HTTPException(422, f"images.{i}.data: is not base64") from None
        images.append(EncodedImage(content, _name(image.name, i)))
    return images


def _too_many(bounds: Bounds) -> HTTPException:
    return HTTPException(413, f"a request has at most {bounds.max_images} images")


def _name(given: str | None, index: int) -> str:
    return one_line(given, MAX_NAME) if given else f"image {index}"
