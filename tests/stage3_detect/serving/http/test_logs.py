"""No patient data in what the service writes: made-up names through every route, readable and broken."""

import io
import json
import logging
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from stage3_detect.serving.http.logs import place_of, set_up_logs
from tests.benchmarks.service_process import ServiceProcess, running_process
from tests.stage3_detect.serving.services import IMAGE_HW, png

NAME = "Zzyzx"
"""Part of all made-up names; no other output contains it."""


def dicom(**broken: object) -> bytes:
    """A DICOM file of a patient; `broken` replaces elements after encoding."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.PatientName, file.PatientID, file.InstitutionName = f"{NAME}^Anna", f"{NAME}-1", f"{NAME} Clinic"
    file.Rows, file.Columns, file.SamplesPerPixel, file.PixelRepresentation = *IMAGE_HW, 1, 0
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PhotometricInterpretation = 16, 12, 11, "MONOCHROME2"
    file.PixelData = np.random.default_rng(0).integers(0, 4096, IMAGE_HW).astype("<u2").tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in broken.items():
            setattr(file, name, value)
        out = io.BytesIO()
        pydicom.dcmwrite(out, file, enforce_file_format=True)
    return out.getvalue()


def uploads() -> list[bytes]:
    """Readable and broken images that carry the name."""
    good, text = dicom(), NAME.encode()
    broken = [
        good[:-1000],
        good.replace(b"MONOCHROME2", text.ljust(11)),
        dicom(PhotometricInterpretation=NAME),
        dicom(WindowCenter="1", WindowWidth="0", VOILUTFunction=NAME),
        dicom(PatientAge=NAME, StudyDate=NAME, PatientBirthDate=NAME),
        good.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"),
        good.replace(b"DA", b"ZZ").replace(b"PN", b"XX"),
        128 * b"\0" + b"DICM" + text * 40,
    ]
    raster = png()
    chunk = raster[:33] + b"\0\0\0\x09" + text[:4] + 9 * b"z" + b"\0\0\0\0" + raster[33:]
    jpeg = cv2.imencode(".jpg", np.zeros(IMAGE_HW, np.uint8))[1].tobytes()
    profile = zlib.compress((400).to_bytes(4, "big") + bytes(range(256)) + bytes(140))  # not one of colours
    content = b"iCCP" + text + b"\0\0" + profile
    crc = zlib.crc32(content).to_bytes(4, "big")
    named = raster[:33] + (len(content) - 4).to_bytes(4, "big") + content + crc + raster[33:]
    return [good, raster, named, *broken, chunk, raster[:900] + text, jpeg[:300] + text * 20, text, b""]


@pytest.fixture(scope="module")
def written(bundle_alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServiceProcess, Path]]:
    folder = tmp_path_factory.mktemp("written")
    with (folder / "stderr").open("wb") as stderr:
        given = ("--maps", "--audit", str(folder / "audit"), "--corrections", str(folder / "corrections"))
        with running_process(bundle_alone, *given, stderr=stderr) as service:
            yield service, folder


def test_no_name_in_what_the_service_writes(written: tuple[ServiceProcess, Path]) -> None:
    service, folder = written
    sent = {"user-agent": NAME, "x-patient": NAME, "referer": f"http://{NAME}/", "cookie": NAME}
    with httpx.Client(base_url=service.url, headers=sent, timeout=30) as client:
        statuses = send_everything(client)
        metrics = client.get("/metrics").text
    assert service.stop() == 0
    assert statuses
    assert max(statuses) < 500
    stderr = (folder / "stderr").read_text()
    lines = stderr.splitlines()
    assert [line for line in lines if not line.startswith("{")] == []
    requests = [json.loads(line) for line in lines if "route" in json.loads(line)]
    assert {"/v1/detections", "/v1/maps", "unknown"} <= {request["route"] for request in requests}
    assert set(requests[0]) == {"time", "method", "route", "status", "ms", "images"}
    audit = (folder / "audit").read_text()
    assert len(audit.splitlines()) >= 2
    for text in (stderr, audit, metrics, service.summary, service.process.stdout.read().decode()):
        assert NAME.lower() not in text.lower()
        assert NAME.encode().hex() not in text


def send_everything(client: httpx.Client) -> list[int]:
    """Names in files, file names, fields, queries, paths, JSON and headers; the statuses of all answers."""
    answers = []
    for data in uploads():
        for path, field in (("/v1/detections", "files"), ("/v1/maps", "file"), ("/page/readings", "file")):
            answers.append(client.post(path, files={field: (f"{NAME}_Anna.dcm", data)}))
    good = png()
    for path in ("/v1/detections", "/page/readings"):
        answers.append(client.post(path, params={"point": NAME}, files={"files": (NAME, good)}))
        answers.append(client.post(path, params={"point": 20 * NAME}, files={"files": (NAME, good)}))
    answers.append(client.post("/v1/detections", files={"files": (NAME, good), NAME: (NAME, good)}))
    answers.append(client.post("/v1/detections", files={"files": (NAME, good)}, data={"patient": NAME}))
    answers.append(client.post("/v1/detections", content=NAME, headers={"content-type": f"text/{NAME}"}))
    for headers in ({"host": f"{NAME}.example"}, {"origin": f"http://{NAME}"}, {"authorization": f"Bearer {NAME}"}):
        answers.append(client.post("/v1/detections", files={"files": (NAME, good)}, headers=headers))
    paths = [f"/{NAME}", f"/v1/examples/{NAME}", f"/v1/truth?name={NAME}", f"/static/{NAME}", f"/v1/model?a={NAME}"]
    for method, path in [*(("GET", path) for path in paths), (NAME.upper(), "/healthz"), ("POST", f"/{NAME}")]:
        answers.append(client.request(method, path))
    bodies = [{"reader": NAME}, {NAME: 1}, correction(), correction() | {"image_sha256": NAME}, NAME]
    answers += [client.post("/v1/corrections", json=body) for body in bodies]
    answers.append(client.post("/v1/corrections", content=f'{{"reader": "{NAME}'))
    return [answer.status_code for answer in answers]


def correction() -> dict[str, object]:
    box = {"finding": "Nodule/Mass", "box_xyxy": [1, 2, 30, 40], "action": "drawn", "score": None,
           "original_box_xyxy": None, "original_finding": None}  # fmt: skip
    return {"image_sha256": 64 * "a", "name": f"{NAME}.dcm", "width_px": 420, "height_px": 300, "reader": f"{NAME} MD",
            "consent": True, "seconds": 3.5, "clicks": 2, "model_sha256": 64 * "b", "boxes": [box]}  # fmt: skip


def test_an_error_is_its_type_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    before, level = logging.getLogger().handlers, logging.getLogger("pydicom").level
    filters = warnings.filters[:]
    try:
        set_up_logs()
        try:
            int(NAME)
        except ValueError as error:
            assert place_of(error).startswith("http/test_logs.py:")
            logging.getLogger("asyncio").exception("Task of %s failed", NAME)
        logging.getLogger("pydicom").warning("Invalid value %s", NAME)
        logging.getLogger("PIL").error("Cannot read %s", NAME)
        warnings.warn(NAME, stacklevel=1)
    finally:
        logging.getLogger().handlers = before
        logging.getLogger("pydicom").setLevel(level)
        warnings.filters[:] = filters  # type: ignore[index]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"], line["error"]) for line in lines] == [("asyncio", "ValueError"), ("PIL", "")]
    assert NAME not in str(lines)
