"""Exports: stored results in the formats of other programs."""

from her2path.outputs.export.door import FORMATS, export, export_regions

__all__ = ["FORMATS", "export", "export_regions"]
