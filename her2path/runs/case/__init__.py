"""The story of one slide, from pixels to a result."""

from her2path.runs.case.run import RunOptions, SlideResult
from her2path.runs.case.score import Progress, score_slide

__all__ = ["Progress", "RunOptions", "SlideResult", "score_slide"]
