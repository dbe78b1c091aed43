"""`her2path calibrate`: from controls and reads to a settings file."""

from her2path.runs.calibrate.make import Made, Request, calibrate

__all__ = ["Made", "Request", "calibrate"]
