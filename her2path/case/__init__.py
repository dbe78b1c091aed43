"""The story of one slide, from pixels to a result."""

from her2path.case.run import RunOptions, SlideResult
from her2path.case.score import Progress, score_slide

__all__ = ["Progress", "RunOptions", "SlideResult", "score_slide"]
