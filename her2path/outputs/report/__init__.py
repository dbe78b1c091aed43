"""Reports: one self-contained page a slide, a case and a batch, from the stored results alone."""

from her2path.outputs.report.pages import build, build_all, build_case, build_index, figures

__all__ = ["build", "build_all", "build_case", "build_index", "figures"]
