"""The service from inside its process: what it answers, and what it refuses."""

from __future__ import annotations

import base64
import json
import logging
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")

import torch
from fastapi.testclient import TestClient
from served import TOKEN, Slow, encode, files, make_client, make_image, make_model

from gfocal.data.images import pixel_limit
from gfocal.serving.app import PARAMETERS
from gfocal.serving.bounds import Bounds

IMAGE = encode(make_image())


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model()


@pytest.fixture(scope="module")
def client(model: Any) -> Iterator[TestClient]:
    with make_client(model) as found:
        yield found


def metric(client: TestClient, line: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next((float(one.rpartition(" ")[2]) for one in lines if one.startswith(line)), 0.0)


def test_a_form_and_json_give_what_detect_gives(client: TestClient, model: Any) -> None:
    image = make_image()
    wanted = model.detect(image).to_dict()["detections"]
    assert wanted
    by_form = client.post("/detect", files=files(IMAGE)).json()
    content = base64.b64encode(IMAGE).decode()
    by_json = client.post("/detect", json={"images": [{"data": content, "name": "one"}]}).json()
    assert by_json["images"][0]["name"] == "one"
    assert by_form["images"][0]["name"] == "0.png"
    for answer in (by_form, by_json):
        [found] = answer["images"]
        assert (found["width"], found["height"]) == image.size
        got = [{key: one[key] for key in wanted[0]} for one in found["detections"]]
        assert got == wanted
        assert answer["coverage"] == 0.9
        assert answer["total_ms"] >= found["timings"]["network"] > 0
        assert answer["model"]["name"] == "small"


def test_several_images_keep_their_order(client: TestClient) -> None:
    sizes = [(120, 90), (90, 120), (200, 100), (120, 90), (60, 60)]
    answer = client.post("/detect", files=files(*(encode(make_image(*size)) for size in sizes))).json()
    assert [(one["width"], one["height"]) for one in answer["images"]] == sizes


def test_images_of_one_size_go_together_and_others_do_not() -> None:
    slow = Slow(0.05)
    with make_client(slow, Bounds(max_batch=4, max_wait=0.3)) as client:
        sizes = [(120, 90)] * 5 + [(90, 120)]
        answer = client.post("/detect", files=files(*(encode(make_image(*size)) for size in sizes))).json()
    # Which of the five is alone depends on which was read last.
    counts = [one["timings"]["batch_size"] for one in answer["images"]]
    assert sorted(counts[:5]) == [1, 4, 4, 4, 4]
    assert counts[5] == 1
    assert sorted(shape[0] for shape in slow.batches) == [1, 1, 4]


def test_a_file_needs_no_name(client: TestClient) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\n' + IMAGE + b"\r\n"
    answer = client.post("/detect", content=2 * part + b"--x--\r\n", headers=FORM)
    assert [one["name"] for one in answer.json()["images"]] == ["image 0", "image 1"]


def test_score_threshold_coverage_and_distributions_of_a_request(client: TestClient, model: Any) -> None:
    wanted = model.detect(make_image())
    middle = wanted[len(wanted) // 2].score
    query = {"score_threshold": middle, "coverage": 0.7, "distributions": True}
    answer = client.post("/detect", params=query, files=files(IMAGE)).json()
    chosen = wanted.above(middle)
    objects = answer["images"][0]["detections"]
    assert len(objects) == len(chosen) > 0
    assert answer["coverage"] == 0.7
    intervals = torch.tensor([one["edge_interval"] for one in objects])
    torch.testing.assert_close(intervals, chosen.edge_interval(0.7), atol=1e-3, rtol=0)
    shape = objects[0]["distributions"]
    torch.testing.assert_close(torch.tensor(shape["probabilities"]), chosen.edges[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.tensor(shape["point"]), chosen.points[0], atol=1e-3, rtol=0)


def test_a_model_without_calibration_has_no_intervals() -> None:
    with make_client(make_model(calibrated=False)) as client:
        answer = client.post("/detect", files=files(IMAGE)).json()
        assert answer["coverage"] is None
        assert {one["edge_interval"] for one in answer["images"][0]["detections"]} == {None}
        refused = client.post("/detect?coverage=0.9", files=files(IMAGE))
        assert refused.status_code == 422
        assert "not calibrated" in refused.json()["detail"]


def test_more_than_the_calibration_can_promise_is_refused(client: TestClient) -> None:
    assert client.post("/detect?coverage=0.9999", files=files(IMAGE)).status_code == 422


@pytest.mark.parametrize("query", ["score_threshold=2", "score_threshold=nan", "coverage=1", "distributions=perhaps"])
def test_parameters_out_of_range_are_refused_in_a_line(client: TestClient, query: str) -> None:
    refused = client.post(f"/detect?{query}", files=files(IMAGE))
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith(query.partition("=")[0])


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes that claims many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


BROKEN = {
    "empty file": b"",
    "not an image": b"hello",
    "truncated": IMAGE[: len(IMAGE) // 2],
    "megapixels": bomb(30_000, 20_000),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_read_is_refused_with_the_reason(client: TestClient, kind: str) -> None:
    refused = client.post("/detect", files=files(IMAGE, BROKEN[kind]))
    assert refused.status_code == 422
    detail = refused.json()["detail"]
    assert detail.startswith("1.png: "), "names the file"
    assert "\n" not in detail
    assert client.post("/detect", files=files(IMAGE)).status_code == 200


def test_the_limit_of_pixels_is_that_of_the_command(model: Any) -> None:
    with pixel_limit(0.005), make_client(model) as client:
        refused = client.post("/detect", files=files(IMAGE))
    assert refused.status_code == 422
    assert "--max-megapixels" in refused.json()["detail"]


def test_bodies_that_are_too_large_are_refused(model: Any) -> None:
    with make_client(model, Bounds(max_body=2000, max_bodies=4000)) as client:
        too_large = client.post("/detect", files=files(bytes(3000)))
        assert too_large.status_code == 413
        assert "MiB" in too_large.json()["detail"]

        def parts() -> Iterator[bytes]:
            yield from [b"x" * 500] * 5

        headers = {"content-type": "application/json"}
        assert client.post("/detect", content=parts(), headers=headers).status_code == 413, "without a length"
        assert client.app.state is not None


def test_too_many_images_are_refused(client: TestClient) -> None:
    many = [IMAGE] * (client.get("/model").json()["max_images"] + 1)
    assert client.post("/detect", files=files(*many)).status_code == 413
    content = [{"data": base64.b64encode(one).decode()} for one in many]
    assert client.post("/detect", json={"images": content}).status_code == 413


JSON, FORM = {"content-type": "application/json"}, {"content-type": "multipart/form-data; boundary=x"}
ABUSES: dict[str, tuple[dict[str, str], bytes, int]] = {
    "no type": ({}, b"hello", 415),
    "another type": ({"content-type": "text/plain"}, b"hello", 415),
    "an encoding": ({**JSON, "content-encoding": "gzip"}, b"{}", 415),
    "broken json": (JSON, b"{", 400),
    "nested json": (JSON, b"[" * 100_000, 400),
    "no utf-8": (JSON, b'{"images": [{"data": "\xff"}]}', 400),
    "json of another shape": (JSON, b'{"images": 3}', 422),
    "no images": (JSON, b'{"images": []}', 422),
    "not base64": (JSON, b'{"images": [{"data": "*"}]}', 422),
    "a form without boundary": ({"content-type": "multipart/form-data"}, b"hello", 400),
    "a broken form": (FORM, b"hello", 400),
    "a form that ends early": (
        FORM,
        b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\nab',
        400,
    ),
    "an empty form": (FORM, b"--x--\r\n", 422),
    "a header without end": (FORM, b"--x\r\n" + b"a" * 20_000, 400),
    "a boundary without end": ({"content-type": "multipart/form-data; boundary=" + "x" * 300}, b"hello", 400),
    "text in a form": (FORM, b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\nab\r\n--x--\r\n', 422),
    "another field": (
        FORM,
        b'--x\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\nab\r\n--x--\r\n',
        422,
    ),
    "an empty body": (FORM, b"", 400),
}


@pytest.mark.parametrize("abuse", ABUSES)
def test_bodies_that_are_not_what_they_say(client: TestClient, abuse: str) -> None:
    headers, content, status = ABUSES[abuse]
    refused = client.post("/detect", headers=headers, content=content)
    assert refused.status_code == status, refused.text
    assert isinstance(refused.json()["detail"], str)


def test_names_of_files_cannot_break_anything(client: TestClient) -> None:
    name = "../../etc/passwd\u202e<script>" + "x" * 3000
    answer = client.post("/detect", json={"images": [{"data": base64.b64encode(IMAGE).decode(), "name": name}]})
    found = answer.json()["images"][0]["name"]
    assert len(found) < 300
    assert "\u202e" not in found


def test_deep_images_are_read_as_detect_reads_them(client: TestClient, model: Any) -> None:
    deep = make_image().convert("L").convert("I").point(lambda value: value * 16)
    content = encode(deep.convert("I;16"))
    wanted = model.detect(deep.convert("I;16")).to_dict()["detections"]
    found = client.post("/detect", files=files(content)).json()["images"][0]["detections"]
    assert [one["box"] for one in found] == [one["box"] for one in wanted]


def test_the_token_is_required(model: Any) -> None:
    with make_client(model, token=TOKEN) as client:
        for path in ("/model", "/metrics"):
            assert client.get(path).status_code == 401
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            refused = client.post("/detect", files=files(IMAGE), headers=given)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert "the token is missing or wrong" in refused.json()["detail"]
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert client.post("/detect", files=files(IMAGE), headers=right).status_code == 200
        assert client.get("/model", headers=right).status_code == 200
        assert client.get("/health").status_code == client.get("/ready").status_code == 200, "of the orchestrator"


def test_the_token_is_compared_in_constant_time(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    with make_client(model, token=TOKEN) as client:
        client.get("/model", headers={"Authorization": "Bearer wrong"})
    assert compared == [(b"wrong", TOKEN.encode())]


def test_pages_of_other_sites_cannot_use_it(client: TestClient) -> None:
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        answer = client.post("/detect", files=files(IMAGE), headers={"Sec-Fetch-Site": site})
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://testserver"}, 200),
        ({"Origin": "http://TestServer:80"}, 200),
        ({"Origin": "https://detect.example.org", "Host": "detect.example.org:443"}, 200),
        ({"Origin": "https://detect.example.org", "Sec-Fetch-Site": "same-origin"}, 200),  # a proxy that changes Host
        ({"Origin": "http://testserver", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://testserver:8080"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
    ],
)
def test_browsers_that_state_an_origin_alone(client: TestClient, headers: dict[str, str], status: int) -> None:
    """Those that are old, and all where the service has neither https nor an address of this machine."""
    answer = client.post("/detect", files=files(IMAGE), headers=headers)
    assert answer.status_code == status, answer.text


def test_parameters_and_fields_that_there_are_not(client: TestClient) -> None:
    content = base64.b64encode(IMAGE).decode()
    answer = client.post("/detect?threshold=0.9&coverage=0.9", files=files(IMAGE))
    assert answer.status_code == 422
    assert answer.json()["detail"] == (
        "threshold: no such parameter; there are score_threshold, coverage and distributions"
    )
    answer = client.post("/detect", json={"images": [{"data": content}], "score_threshold": 0.9})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("score_threshold: no such field; there is images, and parameters stand")
    answer = client.post("/detect", json={"images": [{"data": content, "file_name": "a"}]})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "images.0.file_name: no such field; an image has data and name"
    known = {one["name"] for one in client.get("/openapi.json").json()["paths"]["/detect"]["post"]["parameters"]}
    assert known == set(PARAMETERS)


def in_threads(number: int, ask: Any) -> list[Any]:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(ask())) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_beyond_the_queue_requests_are_told_when_to_come_back() -> None:
    slow = Slow(0.3)
    with make_client(slow, Bounds(max_batch=1, max_queue=2)) as client:
        answers = in_threads(6, lambda: client.post("/detect", files=files(IMAGE)))
        refused = [one for one in answers if one.status_code == 503]
        assert len(refused) == 4
        assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
        assert sum(one.status_code == 200 for one in answers) == 2
        assert client.post("/detect", files=files(IMAGE)).status_code == 200, "there is room again"
        assert metric(client, 'gfocal_requests_total{status="503"}') == 4
        assert metric(client, "gfocal_images_inside") == 0


def test_more_images_than_there_is_room_for_are_refused_as_a_whole() -> None:
    with make_client(Slow(), Bounds(max_batch=1, max_queue=2)) as client:
        assert client.post("/detect", files=files(IMAGE, IMAGE, IMAGE)).status_code == 413
        assert client.post("/detect", files=files(IMAGE, IMAGE)).status_code == 200


def test_what_takes_too_long_is_given_up() -> None:
    slow = Slow(1.0)
    with make_client(slow, Bounds(answer_seconds=0.2)) as client:
        assert client.post("/detect", files=files(IMAGE)).status_code == 504


def test_an_image_that_the_network_fails_on_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    slow = Slow(fails_on=119)
    with caplog.at_level(logging.CRITICAL), make_client(slow, Bounds(max_wait=0.5)) as client:
        statuses = []

        def ask(width: int) -> None:
            answer = client.post("/detect", files=files(encode(make_image(width, 90))))
            statuses.append((width, answer.status_code))

        threads = [threading.Thread(target=ask, args=(width,)) for width in (120, 119, 120)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [(119, 500), (120, 200), (120, 200)]
        assert client.get("/health").status_code == 200


def test_health_and_readiness(model: Any) -> None:
    client = make_client(model)
    with client:
        assert client.get("/health").json() == client.get("/ready").json() == {"status": "ok"}
    assert client.get("/ready").status_code == 503, "it has stopped"


def test_a_service_whose_network_has_ended_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    from gfocal.serving.batcher import Batcher

    monkeypatch.setattr(Batcher, "_detect_all", lambda self: None)
    with make_client(make_model()) as client:
        time.sleep(0.05)
        assert client.get("/health").status_code == 503


def test_metrics_are_what_prometheus_reads(model: Any) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    with make_client(model) as client:
        client.post("/detect", files=files(IMAGE, IMAGE))
        client.post("/detect", files=files(b"hello"))
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    status = {
        sample.labels["status"]: sample.value for sample in families["gfocal_requests"].samples if sample.labels
    }
    assert status["200"] == status["422"] == 1
    assert {"gfocal_images", "gfocal_request_seconds", "gfocal_batch_size", "process_resident_memory_bytes"} <= set(
        families
    )


def test_openapi_describes_what_is_answered(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    detect = schema["paths"]["/detect"]["post"]
    assert set(detect["requestBody"]["content"]) == {"multipart/form-data", "application/json"}
    assert {"200", "400", "401", "403", "408", "413", "415", "422", "500", "503", "504"} == set(detect["responses"])
    assert "Retry-After" in detect["responses"]["503"]["headers"]
    assert "$ref" not in json.dumps(detect["requestBody"])


def test_the_page_is_one_file_that_loads_nothing_else(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in page.text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page.text
    assert " src=" not in page.text
    assert " style=" not in page.text, "the policy would not allow it"


def test_an_exported_file_is_served_like_a_model(tmp_path: Any) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    from gfocal.export.export import ExportOptions, export_model
    from gfocal.models.exported import load_exported

    path = tmp_path / "small.onnx"
    export_model(make_model(), path, ExportOptions("onnx", images=[make_image(seed=i) for i in range(2)]))
    model = load_exported(path, num_threads=1)
    wanted = model.detect(make_image()).to_dict()["detections"]
    assert wanted
    with make_client(model, Bounds(max_wait=0.5)) as client:
        answer = client.post("/detect", files=files(IMAGE, IMAGE)).json()
        assert answer["model"]["engine"].startswith("onnxruntime ")
    for found in answer["images"]:
        assert found["timings"]["batch_size"] == 2
        assert [one["name"] for one in found["detections"]] == [one["name"] for one in wanted]
        boxes = [torch.tensor([one["box"] for one in several]) for several in (found["detections"], wanted)]
        torch.testing.assert_close(*boxes, atol=0.01, rtol=0)
