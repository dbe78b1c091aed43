"""The story of one slide, from pixels to a result."""

from her2path.case.score import Progress, RunOptions, SlideResult, score_slide

__all__ = ["Progress", "RunOptions", "SlideResult", "score_slide"]
