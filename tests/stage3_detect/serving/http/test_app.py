"""Routes that do not concern images, errors of HTTP, and the OpenAPI description."""

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from stage3_detect.serving.http import schemas
from stage3_detect.serving.http.app import make_app
from stage3_detect.serving.interface import ServedModel
from stage3_detect.serving.settings import ServiceSettings
from tests.stage3_detect.serving.services import Service, files, running


@pytest.fixture(scope="module")
def service(model: ServedModel) -> Iterator[Service]:
    with running(model) as service:
        yield service


def test_state_routes(service: Service) -> None:
    with service.client() as client:
        for path in ("/healthz", "/readyz"):
            assert client.get(path).json() == {"status": "ok"}
            head = client.head(path)
            assert (head.status_code, head.headers["content-length"], head.content) == (200, "15", b"")


def test_draining_is_not_ready_and_refuses_work(model: ServedModel) -> None:
    with running(model) as service, service.client() as client:
        service.context.workers.num_accepted += 1  # as if a request were in work
        service.context.workers.draining = True
        ready, work = client.get("/readyz"), client.post("/v1/detections", files=files("a.png"))
        assert client.get("/healthz").status_code == 200
        service.context.workers.num_accepted -= 1
    assert (ready.status_code, ready.headers["retry-after"]) == (503, "2")
    assert (work.status_code, work.headers["retry-after"]) == (503, "2")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/model/", 404),
        ("GET", "/docs", 404),
        ("GET", "/v1/detections", 405),
        ("HEAD", "/v1/detections", 405),
        ("OPTIONS", "/v1/detections", 405),
        ("OPTIONS", "/healthz", 405),
        ("DELETE", "/v1/model", 405),
        ("TRACE", "/healthz", 405),
        ("BREW", "/healthz", 405),
    ],
)
def test_other_routes_and_methods_are_errors_in_json(service: Service, method: str, path: str, status: int) -> None:
    with service.client() as client:
        answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert method == "HEAD" or list(answer.json()) == ["error"]
    assert (status == 405) == ("allow" in answer.headers)


def test_openapi_describes_every_route_with_examples(service: Service) -> None:
    with service.client() as client:
        description = client.get("/openapi.json").json()
    assert description["openapi"].startswith("3.1")
    assert {"/healthz", "/readyz", "/metrics", "/v1/model", "/v1/detections", "/v1/maps"} <= set(description["paths"])
    body = description["paths"]["/v1/detections"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert body["required"] == ["files"]
    ours = [name for name, schema in description["components"]["schemas"].items() if "Answer" in name]
    assert ours
    assert all(description["components"]["schemas"][name]["examples"] for name in ours)
    operations = [operation for path in description["paths"].values() for operation in path.values()]
    assert len({operation["summary"] for operation in operations}) == len(operations)
    assert all(len(operation["description"]) > len(operation["summary"]) for operation in operations)
    named_by_function = [
        operation["summary"]
        for operation in operations
        if operation["operationId"].startswith(operation["summary"].lower().replace(" ", "_"))
    ]
    assert not named_by_function


@pytest.mark.parametrize("schema", [value for value in vars(schemas).values() if isinstance(value, type)], ids=str)
def test_examples_fit_their_schema(schema: type) -> None:
    if issubclass(schema, BaseModel) and schema is not BaseModel:
        extra = schema.model_config["json_schema_extra"]
        assert isinstance(extra, dict)
        (example,) = extra["examples"]  # type: ignore[misc, union-attr]
        assert schema.model_validate(example).model_dump(mode="json") == example


def test_no_environment_variable_makes_the_service_send_telemetry(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    app = make_app(model, ServiceSettings())
    assert not app._native_telemetry.enabled()
