"""The files in configs/serving: what they name exists and fits the service, and the packages of the images serve."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from stage3_detect.serve import parse
from stage3_detect.serving.http.server import _GRACE_S, _KEEP_ALIVE_S
from stage3_detect.serving.settings import Limits, ServiceSettings, settings_of
from tests.paths import ROOT
from tests.stage3_detect.serving.chain_builders import make_bundle
from tests.stage3_detect.serving.services import files

SERVING = ROOT / "configs" / "serving"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DRAIN_S = Limits().processing_timeout_s + Limits().send_timeout_s + _GRACE_S
"""Time that the service may take to answer what it accepted."""
VARIANTS = ("Containerfile", "Containerfile.gpu")

Instructions = list[tuple[str, str]]


def instructions(name: str) -> Instructions:
    """(instruction, arguments) of a Containerfile, without comments, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (SERVING / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line]


def of_kind(kind: str, name: str = "Containerfile") -> list[str]:
    return [arguments for found, arguments in instructions(name) if found == kind]


def copied(name: str = "Containerfile") -> set[str]:
    """What the image is built from, by its path in the repository."""
    return {source for line in of_kind("COPY", name) if "--from" not in line for source in shlex.split(line)[:-1]}


def health_check(port: int) -> list[str]:
    command: list[str] = json.loads(of_kind("HEALTHCHECK")[0].split("CMD ")[1])
    assert command[0] == "python"
    return [sys.executable, *(part.replace("8000", str(port)) for part in command[1:])]


def started_with(arguments: list[str], key_file: Path) -> ServiceSettings:
    """The settings of the image's program with these arguments; refuses what the service would refuse."""
    program, *fixed = json.loads(of_kind("ENTRYPOINT")[0])
    assert PROJECT["scripts"] == {program: "stage3_detect.serve:run"}
    return settings_of(vars(parse([*fixed, "--api-keys", str(key_file), *arguments])))


def compose() -> dict[str, Any]:
    values = {"RAYBOX_BUNDLE": "/data/bundle", "RAYBOX_KEYS": "/data/keys.txt"}
    text = (SERVING / "compose.yaml").read_text(encoding="utf-8")
    filled = re.sub(r"\$\{(\w+):[-?]([^}]*)\}", lambda found: values.get(found[1], found[2]), text)
    return dict(yaml.safe_load(filled))


def manifests() -> dict[str, dict[str, Any]]:
    documents = list(yaml.safe_load_all((SERVING / "kubernetes.yaml").read_text(encoding="utf-8")))
    return {document["kind"]: document for document in documents}


@dataclass(frozen=True)
class Installed:
    """The service, running from the wheel that the images install. key: that it accepts."""

    process: "subprocess.Popen[str]"
    port: int
    key: str
    packages: set[str]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    root = tmp_path_factory.mktemp("image")
    for name in ("src", "wheel", "elsewhere"):
        (root / name).mkdir()
    for name in copied() - {"requirements-serve.lock"}:
        source = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, root / "src" / name, ignore=ignored) if source.is_dir() else shutil.copy(
            source, root / "src" / name
        )
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(root / 'wheel')!r})"
    subprocess.run([sys.executable, "-c", build], cwd=root / "src", check=True, capture_output=True)
    with zipfile.ZipFile(next((root / "wheel").glob("*.whl"))) as wheel:
        wheel.extractall(root / "site")
        packages = {name for name in wheel.namelist() if ".dist-info/" not in name}
    shutil.copytree(make_bundle(root / "chain"), root / "bundle")
    start = [sys.executable, "-c", "import stage3_detect.serve as s, sys; print(s.__file__); sys.exit(s.run())"]
    env = {"PYTHONPATH": str(root / "site"), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    keys = root / "keys.txt"
    new_key = [*start, "--new-key", str(keys), "ward"]
    made = subprocess.run(new_key, cwd=root / "elsewhere", env=env, check=True, capture_output=True, text=True)
    program, key = made.stdout.split()
    assert program == str(root / "site" / "stage3_detect" / "serve.py")
    serve = [*start, str(root / "bundle"), "--api-keys", str(keys), "--port", "0", "--maps"]
    process = subprocess.Popen(serve, cwd=root / "elsewhere", env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    page = next(line for line in process.stdout if line.startswith("page:"))
    yield Installed(process, int(page.rstrip("/\n").rsplit(":", 1)[1]), key, packages)
    process.kill()
    process.wait()
    assert not list((root / "elsewhere").iterdir())


def test_the_wheel_holds_every_file_of_the_packages(installed: Installed) -> None:
    folders = [name for name in copied() if (ROOT / name).is_dir()]
    there = {path.relative_to(ROOT).as_posix() for name in folders for path in (ROOT / name).rglob("*.*")}
    assert installed.packages == {name for name in there if "__pycache__" not in name and (ROOT / name).is_file()}


def test_the_installed_service_answers_behind_any_host_name(installed: Installed) -> None:
    headers = {"Authorization": f"Bearer {installed.key}", "Host": "raybox.hospital.example"}
    url = f"http://127.0.0.1:{installed.port}"
    assert httpx.get(f"{url}/v1/model", headers=headers).json()["version"] == PROJECT["version"]
    page = {"Origin": "http://raybox.hospital.example"}  # a browser behind a proxy without TLS
    answer = httpx.post(f"{url}/v1/detections", headers=headers | page, files=files("a.png"), timeout=30)
    assert answer.status_code == 200
    assert [image["name"] for image in answer.json()["images"]] == ["a.png"]
    other = {"Origin": "http://other.example"}
    assert httpx.post(f"{url}/v1/detections", headers=headers | other, files=files("a.png")).status_code == 403


def test_probes_ask_routes_that_need_no_key(installed: Installed) -> None:
    (container,) = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    paths = {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")}
    assert paths == {"/readyz", "/healthz"}
    for path in paths:
        assert httpx.get(f"http://127.0.0.1:{installed.port}{path}").status_code == 200
    annotations = manifests()["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    metrics = f"http://127.0.0.1:{installed.port}{annotations['prometheus.io/path']}"
    assert httpx.get(metrics).status_code == 401
    assert "raybox_requests" in httpx.get(metrics, headers={"Authorization": f"Bearer {installed.key}"}).text


def test_the_health_check_tells_a_running_service_from_one_that_ended(installed: Installed) -> None:
    """The last test of the running service."""
    assert subprocess.run(health_check(installed.port), check=False).returncode == 0
    installed.process.send_signal(getattr(signal, of_kind("STOPSIGNAL")[0]))
    assert installed.process.wait(timeout=30) == 0
    assert subprocess.run(health_check(installed.port), check=False, capture_output=True).returncode == 1


@pytest.mark.parametrize("name", VARIANTS)
def test_images_are_pinned_and_run_without_rights(name: str) -> None:
    bases = [line.split()[0] for line in of_kind("FROM", name)]
    assert len(bases) == 2
    assert all(re.fullmatch(r"[a-z.\-/]+:\d[\w.\-]*", base) for base in bases)
    assert [user.split(":")[0] for user in of_kind("USER", name)] == ["10001"]
    assert not of_kind("ADD", name)
    text = (SERVING / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert "index" not in text
    assert f"raybox-serve{name.removeprefix('Containerfile').replace('.', '-')}:{PROJECT['version']}" in text
    assert f'image.version="{PROJECT["version"]}"' in text
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    # INDEX_URL is empty: a build argument can name a mirror, and no address is in the file
    assert of_kind("ARG", name) == [f"UV_VERSION={re.findall(r'UV_VERSION := (.+)', makefile)[0]}", "INDEX_URL="]
    for command in re.findall(r"uv (?:pip install|build)[^&]*", " ".join(of_kind("RUN", name))):
        assert "--require-hashes" in command or "--no-deps" in command


def test_both_variants_start_the_same_program() -> None:
    for kind in ("ENTRYPOINT", "USER", "EXPOSE", "STOPSIGNAL"):
        assert of_kind(kind) == of_kind(kind, "Containerfile.gpu")
    first, second = (of_kind("HEALTHCHECK", name)[0].split("CMD ")[1] for name in VARIANTS)
    assert first == second


def test_a_build_gets_what_it_copies_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied() | copied("Containerfile.gpu")
    assert all((ROOT / name).exists() for name in copied() | copied("Containerfile.gpu"))


def test_the_gpu_variant_has_the_versions_of_the_lock_file() -> None:
    pins = re.findall(r"^([\w-]+)==([\w.]+)", (SERVING / "requirements-gpu.txt").read_text(encoding="utf-8"), re.M)
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert [name for name, _ in pins if not name.startswith("tensorrt")] == ["torch", "ultralytics"]
    assert all(f"\n{name}=={version} " in locked for name, version in pins if not name.startswith("tensorrt"))
    assert len({version for name, version in pins if name.startswith("tensorrt")}) == 1
    cuda = re.findall(r"^nvidia-cudnn-(cu\d+)==", locked, re.M)[0]
    assert all(name.startswith(f"tensorrt-{cuda}") for name, _ in pins if name.startswith("tensorrt"))


def test_compose_starts_replicas_that_can_do_no_harm(tmp_path: Path) -> None:
    services = compose()["services"]
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
        assert re.fullmatch(r"[\w-]+:\d[\w.\-]*", service["image"])
        assert float(service["stop_grace_period"].removesuffix("s")) >= DRAIN_S
    for name in ("raybox", "reading"):
        service = services[name]
        settings = started_with(service["command"], tmp_path)
        assert settings.host == "0.0.0.0"
        assert settings.limits.max_accepted_bytes == 256 << 20
        assert service["secrets"] == [of_path("--api-keys").removeprefix("/run/secrets/")]
        (bundle,) = (volume for volume in service["volumes"] if volume["target"] == "/bundle")
        assert bundle["read_only"] is True
        assert "ports" not in service
        assert service["networks"] == ["inside"]
        threads = service["command"][service["command"].index("--threads") + 1]
        assert threads == service["deploy"]["resources"]["limits"]["cpus"]
    assert compose()["networks"]["inside"] == {"internal": True}
    assert services["raybox"]["image"] == f"raybox-serve:{PROJECT['version']}"
    assert (SERVING / services["raybox"]["build"]["context"]).resolve() == ROOT
    assert (ROOT / services["raybox"]["build"]["dockerfile"]).is_file()
    assert all(port.startswith("127.0.0.1:") for port in services["proxy"]["ports"])


def test_one_service_alone_writes_corrections(tmp_path: Path) -> None:
    services = compose()["services"]
    assert services["raybox"]["deploy"]["replicas"] == 2
    assert started_with(services["raybox"]["command"], tmp_path).corrections is None
    assert services["reading"]["deploy"]["replicas"] == 1
    folder = started_with(services["reading"]["command"], tmp_path).corrections
    assert str(folder) in {volume["target"] for volume in services["reading"]["volumes"]}
    assert services["reading"]["profiles"] == ["corrections"]


def test_the_proxy_fits_the_service() -> None:
    caddy = (SERVING / "Caddyfile").read_text(encoding="utf-8")
    value = {name: found for name, found in re.findall(r"^\s*(\w+) (\S+)$", caddy, re.MULTILINE)}
    assert int(value["max_size"]) == Limits().max_request_bytes
    assert int(value["keepalive"].removesuffix("s")) < _KEEP_ALIVE_S
    assert int(value["response_header_timeout"].removesuffix("s")) >= DRAIN_S
    assert of_kind("EXPOSE") == [value["port"]] == [str(ServiceSettings().port)]
    upstreams = re.findall(r"import service \{\$\w+:(\w+)\}", caddy)
    assert upstreams == ["raybox", "reading"]
    assert set(upstreams) < set(compose()["services"])
    variables = set(re.findall(r"\{\$(\w+):", caddy)) - {"RAYBOX_UPSTREAM", "RAYBOX_UPSTREAM_CORRECTIONS"}
    assert variables == set(compose()["services"]["proxy"]["environment"])


def test_kubernetes_runs_the_service_without_rights(tmp_path: Path) -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert of_kind("USER") == ["{runAsUser}:{runAsGroup}".format(**pod["securityContext"])]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    allowed = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == allowed
    settings = started_with(container["args"], tmp_path)
    assert settings.corrections is None
    assert container["ports"] == [{"name": "http", "containerPort": settings.port}]
    assert container["args"][container["args"].index("--threads") + 1] == container["resources"]["limits"]["cpu"]
    wait_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= wait_s + DRAIN_S
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"tmp": "/tmp", "api-keys": str(Path(of_path("--api-keys")).parent)}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)


def test_kubernetes_objects_name_each_other() -> None:
    found = manifests()
    kinds = ("Namespace", "Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy")
    assert set(found) == set(kinds)
    namespace = found.pop("Namespace")["metadata"]["name"]
    assert {document["metadata"]["namespace"] for document in found.values()} == {namespace}
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    scaled = found["HorizontalPodAutoscaler"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert scaled["minReplicas"] == found["Deployment"]["spec"]["replicas"] == 2
    assert [port["targetPort"] for port in found["Service"]["spec"]["ports"]] == ["http"]
    (rule,) = found["NetworkPolicy"]["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == ["http"]
    assert found["NetworkPolicy"]["spec"]["egress"] == []


def of_path(option: str) -> str:
    """The value of an option in the image's ENTRYPOINT."""
    fixed: list[str] = json.loads(of_kind("ENTRYPOINT")[0])
    return fixed[fixed.index(option) + 1]
