"""Stage 3: train a YOLO detector on pseudo-boxes and serve it. The only package that imports ultralytics.

A module that imports ultralytics imports torch before it: otherwise ultralytics limits OpenMP to one thread in the
whole process. Serving needs neither.
"""

from stage3_detect.offline import go_offline

# The libraries read these environment variables on import, so set them before any module of this package loads.
go_offline()
