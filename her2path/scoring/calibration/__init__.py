"""Calibration: cut-offs from controls and from reads, and membrane OD as receptors a cell."""
