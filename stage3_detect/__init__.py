"""Stage 3: a YOLO detector learns from pseudo-boxes. The only package that touches ultralytics."""

from stage3_detect.offline import go_offline

# Both read their switches while they are imported, so these are set before any module of this package imports them.
go_offline()
