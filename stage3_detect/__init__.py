"""Stage 3: a YOLO detector learns from pseudo-boxes. The only package that touches ultralytics."""

import torch  # noqa: F401 - before ultralytics, which otherwise limits OpenMP to one thread for the whole process

from stage3_detect.offline import go_offline

# Both libraries read their switches while they are imported, so these are set before any module of this package.
go_offline()
