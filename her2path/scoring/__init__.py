"""From cells to verdicts: guidelines, ISH, calibration, uncertainty, agreement.

Tables of cells or scores in, verdicts with their intervals out.
"""
