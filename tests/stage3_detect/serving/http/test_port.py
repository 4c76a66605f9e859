"""The port: addresses that cannot be used, and that nothing heavy is loaded before."""

import subprocess
import sys

import pytest

from cxr.config import UserError
from stage3_detect.serving.http.port import listen
from tests.paths import ROOT


def test_an_address_that_cannot_be_used_is_an_error() -> None:
    with listen("127.0.0.1", 0) as opened, pytest.raises(UserError, match="--port"):
        listen("127.0.0.1", opened.getsockname()[1])
    with pytest.raises(UserError, match="--host"):
        listen("no.such.host.invalid", 0)
    with pytest.raises(UserError, match="no host name"):
        listen(70 * "a", 0)


def test_a_port_in_use_is_reported_before_the_model_is_looked_for() -> None:
    code = """
import sys
from stage3_detect.serve import main, parse
try:
    main(parse(["no such run", "--port", sys.argv[1]]))
except Exception as error:
    print(error)
print({"fastapi", "uvicorn", "cv2", "openvino"} & set(sys.modules))
"""
    with listen("127.0.0.1", 0) as opened:
        command = [sys.executable, "-c", code, str(opened.getsockname()[1])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    reason, loaded = done.stdout.splitlines()
    assert "--port" in reason
    assert loaded == "set()"
