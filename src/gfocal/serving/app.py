"""The addresses of the service."""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from gfocal import __version__
from gfocal.data.images import EncodedImage
from gfocal.errors import ImageError
from gfocal.serving.answer import (
    Answer,
    ImageAnswer,
    ModelDescription,
    Problem,
    State,
    describe_image,
    milliseconds,
)
from gfocal.serving.batcher import ClosedError, Found, QueueFullError
from gfocal.serving.meters import CONTENT_TYPE
from gfocal.serving.page import Page, page_settings
from gfocal.serving.service import Service
from gfocal.serving.upload import GONE, Body, JsonImage, JsonRequest, receive_images
from gfocal.text import one_line

PARAMETERS = ("score_threshold", "coverage", "distributions")  # of /detect
STUCK_FACTOR = 4  # a batch that takes so many times the time limit of an answer will not end

BEARER = HTTPBearer(auto_error=False, description="where the service was started with a token")
REASONS = {
    400: "the body is not what its content type says",
    401: "the token is missing or wrong",
    403: "a page of another site made a browser ask",
    408: "the request did not arrive in time",
    413: "too many bytes or images",
    415: "neither a form nor json",
    422: "an image that cannot be read or has too many pixels, or a parameter that is unknown or out of range",
    500: "an error of the service",
    503: "the queue is full, or the service is stopping; Retry-After says when to try again",
    504: "no result in time",
}


def create_app(service: Service) -> FastAPI:
    """The application. Its threads start with it, and finish what they have before it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        yield
        await run_in_threadpool(service.batcher.close, service.batcher.bounds.answer_seconds)

    app = FastAPI(
        title="gfocal",
        version=__version__,
        description="A detector of objects, with the uncertainty of each edge of their boxes.",
        lifespan=lifespan,
        docs_url=None,  # its pages load code from elsewhere
        redoc_url=None,
    )
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    _add_detection(app, service)
    _add_states(app, service)
    return app


def _responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": REASONS[status]} for status in statuses
    }
    if 503 in found:
        found[503]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return found


def _require_token(service: Service) -> Any:
    """What compares the token of a request, in a time that tells nothing of it."""

    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> None:
        text = "" if given is None else given.credentials
        if service.token and not hmac.compare_digest(text.encode(), service.token.encode()):
            detail = f"{REASONS[401]}: send Authorization: Bearer TOKEN"
            raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})

    return Depends(check)


def _body_schema() -> dict[str, Any]:
    files = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
    form = {
        "type": "object",
        "properties": {"images": files},
        "required": ["images"],
        "additionalProperties": False,
    }
    json = JsonRequest.model_json_schema()
    json["properties"]["images"]["items"] = JsonImage.model_json_schema()  # in place: these are no components
    json.pop("$defs")
    return {
        "required": True,
        "description": "image files: as a form, in one or several fields `images`, or as json, in base64",
        "content": {
            "multipart/form-data": {"schema": form, "encoding": {"images": {"contentType": "image/*"}}},
            "application/json": {"schema": json},
        },
    }


def _add_detection(app: FastAPI, service: Service) -> None:
    @app.post(
        "/detect",
        response_model=Answer,
        responses=_responses(400, 401, 403, 408, 413, 415, 422, 500, 503, 504),
        openapi_extra={"requestBody": _body_schema()},
        summary="Detect objects in images",
        dependencies=[_require_token(service)],
    )
    async def detect(
        request: Request,
        score_threshold: Annotated[
            float | None,
            Query(ge=0, le=1, description="objects score more; by default the model's own threshold of each class"),
        ] = None,
        coverage: Annotated[
            float | None,
            Query(
                gt=0, lt=1, description="of a calibrated model, the probability that all edges lie in the intervals"
            ),
        ] = None,
        distributions: Annotated[bool, Query(description="whether to tell the distribution of each edge")] = False,
    ) -> Response:
        start = time.perf_counter()
        try:
            _refuse_other_sites(request)
            _refuse_unknown_parameters(request)
            answer = await _detect(service, request, score_threshold, coverage, distributions)
            answer.total_ms = milliseconds(time.perf_counter() - start)
            text = await run_in_threadpool(answer.model_dump_json)
        except HTTPException as error:
            service.meters.vanished.inc(error.status_code == GONE)
            service.meters.requests.labels(str(error.status_code)).inc()
            raise
        except Exception:
            service.meters.requests.labels("500").inc()
            raise
        service.meters.requests.labels("200").inc()
        service.meters.seconds.observe(time.perf_counter() - start)
        service.meters.objects.inc(sum(len(image.detections) for image in answer.images))
        return Response(text, media_type="application/json")


def _refuse_other_sites(request: Request) -> None:
    """A service that only this machine reaches is reached by its browsers too, and so by any page they show.

    ``Sec-Fetch-Site`` says where the page is from; browsers send it to this machine and to https alone. ``Origin``
    goes with every POST of a page, and is compared with the host that was asked. Other clients send neither.
    """
    headers = request.headers
    site = headers.get("sec-fetch-site", "none")
    is_ours = site == "same-origin" or (
        site == "none" and ("origin" not in headers or _is_origin_of(headers["origin"], headers.get("host", "")))
    )
    if not is_ours:
        raise HTTPException(403, "a page of another site may not ask")


def _is_origin_of(origin: str, host: str) -> bool:
    """Whether pages of a host have this origin; one of them may state the usual port, and the other none."""
    scheme, _, place = origin.lower().partition("://")
    usual = ":443" if scheme == "https" else ":80"
    return bool(place) and place.removesuffix(usual) == host.lower().removesuffix(usual)


def _refuse_unknown_parameters(request: Request) -> None:
    known = f"{', '.join(PARAMETERS[:-1])} and {PARAMETERS[-1]}"
    for name in request.query_params:
        if name not in PARAMETERS:
            raise HTTPException(422, f"{one_line(name, 80)}: no such parameter; there are {known}")


async def _detect(
    service: Service, request: Request, score_threshold: float | None, coverage: float | None, distributions: bool
) -> Answer:
    coverage = _choose_coverage(service, coverage)
    thresholds = service.thresholds if score_threshold is None else (score_threshold,) * len(service.thresholds)
    body = Body(request, service.batcher.bounds, service.receiving)
    try:
        images = await receive_images(body)
        results = await _results(service, request, images, min(thresholds))
    finally:
        body.release()

    def describe() -> list[ImageAnswer]:
        return [
            describe_image(image.name, one.detections.above(thresholds), one.timings, coverage, distributions)
            for image, one in zip(images, results, strict=True)
        ]

    answers = await run_in_threadpool(describe)
    return Answer(images=answers, coverage=coverage, model=service.description.model, total_ms=0)


def _choose_coverage(service: Service, coverage: float | None) -> float | None:
    """The coverage of the intervals; None: no intervals."""
    if coverage is None:
        return service.description.coverage
    if service.calibration is None:
        raise HTTPException(422, "coverage: the model is not calibrated, so that it has no intervals")
    if not service.calibration.can_promise(coverage):
        raise HTTPException(422, f"coverage: {coverage:g} is more than the calibration of this model can promise")
    return coverage


async def _results(
    service: Service, request: Request, images: Sequence[EncodedImage], threshold: float
) -> Sequence[Found]:
    """The results of all images of a request, or the HTTPException that says why there are none."""
    try:
        futures = service.batcher.submit(images, threshold)
    except QueueFullError as full:
        raise HTTPException(503, "the queue is full", {"Retry-After": str(max(1, math.ceil(full.seconds)))}) from None
    except ClosedError:
        raise HTTPException(503, "the service is stopping", {"Retry-After": "10"}) from None
    results = asyncio.gather(*map(asyncio.wrap_future, futures))
    results.add_done_callback(_retrieve)
    gone = asyncio.ensure_future(_gone(request))
    try:
        both: set[asyncio.Future[Any]] = {results, gone}
        await asyncio.wait(both, timeout=service.batcher.bounds.answer_seconds, return_when=asyncio.FIRST_COMPLETED)
        if results.done():
            return results.result()
        if gone.done():
            raise HTTPException(GONE, "the client left")
        raise HTTPException(504, f"no result in {service.batcher.bounds.answer_seconds:g} seconds")
    except ImageError as error:
        raise HTTPException(422, str(error)) from None
    finally:
        gone.cancel()
        _cancel(futures)


async def _gone(request: Request) -> None:
    """Returns when the client has left; the body must have been received."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _retrieve(results: asyncio.Future[Any]) -> None:
    """Look at the error of what nobody waits for any more, which asyncio would log else."""
    if not results.cancelled():
        results.exception()


def _cancel(futures: Sequence[Future[Found]]) -> None:
    for future in futures:
        future.cancel()  # of what is done, nothing happens


def _add_states(app: FastAPI, service: Service) -> None:
    token = _require_token(service)
    page = Page()

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page.html, headers=page.headers)

    @app.get("/viewer-settings", include_in_schema=False, dependencies=[token])
    async def viewer_settings() -> dict[str, Any]:
        return page_settings(service)

    @app.get("/model", responses=_responses(401), summary="The model of this service", dependencies=[token])
    async def model() -> ModelDescription:
        return service.description

    @app.get("/health", responses=_responses(503), summary="Whether the process works: restart it where not")
    async def health() -> State:
        if service.batcher.is_stuck(STUCK_FACTOR * service.batcher.bounds.answer_seconds):
            raise HTTPException(503, "what computes has ended, or does not end", {"Retry-After": "10"})
        return State(status="ok")

    @app.get("/ready", responses=_responses(503), summary="Whether it takes requests")
    async def ready() -> State:
        if service.batcher.is_closed:
            raise HTTPException(503, "the service is stopping", {"Retry-After": "10"})
        if service.batcher.num_inside >= service.batcher.bounds.max_queue:
            raise HTTPException(503, "the queue is full", {"Retry-After": "1"})
        return State(status="ok")

    @app.get(
        "/metrics",
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_responses(401)},
        response_class=Response,
        summary="Counts and times, for Prometheus",
        dependencies=[token],
    )
    async def metrics() -> Response:
        return Response(service.meters.text(), media_type=CONTENT_TYPE)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Parameters that are not what they should be, in a line."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return JSONResponse({"detail": one_line(f"{first['loc'][-1]}: {first['msg']}", 300)}, 422)


async def _failed(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "an error of the service; its log says which"}, 500)
