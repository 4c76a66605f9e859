"""Stage 3: train a YOLO detector on pseudo-boxes. The only package that imports ultralytics."""

import torch  # noqa: F401 - before ultralytics, which otherwise limits OpenMP to one thread in the whole process

from stage3_detect.offline import go_offline

# The libraries read these environment variables on import, so set them before any module of this package loads.
go_offline()
