"""A blind reading session: what the reader says, and when the program's is shown."""

from __future__ import annotations

from typing import Any

from tornado.web import HTTPError

from her2path.core.errors import Her2PathError
from her2path.outputs.viewer.doors import Handler, header_safe
from her2path.outputs.viewer.refreshing import after_signing
from her2path.runs.cohort.readlog import Reading

__all__ = ["ReadHandler", "facts_of"]

_ACTIONS = ("draft", "give", "decide", "sign")


def facts_of(read: Reading) -> dict[str, Any]:
    """Return what the page needs to know of the reader's own read."""
    return {"state": read.state, "before": read.before, "after": read.after,
            "percent": read.percent, "comment": read.comment, "seconds": read.seconds,
            "signed_at": read.signed_at, "draft": read.draft}  # fmt: skip


class ReadHandler(Handler):
    """One reader's read of one slide; nobody else's is ever given."""

    def prepare(self) -> None:
        """Answer only in a session of a reader, for a slide of the worklist."""
        super().prepare()
        if self.viewer.log is None or self.number >= len(self.viewer.items):
            raise HTTPError(404, reason="Nobody reads here")

    def get(self, number: str | None = None) -> None:  # noqa: ARG002
        """Answer with the read as it stands."""
        read = self.viewer.reading(self.number)
        assert read is not None
        self.answer(facts_of(read))

    async def post(self, number: str | None = None) -> None:  # noqa: ARG002
        """Take in a draft, the score, the decision or the signature; on the disk when answered."""
        body, log = self.body(), self.viewer.log
        action = body.get("action")
        assert log is not None
        if action not in _ACTIONS:
            raise HTTPError(400, reason="No such action")
        key = self.viewer.items[self.number].key
        try:
            if action == "draft":
                log.draft(key, body)
            elif action == "give":
                log.give(key, body)
            elif action == "decide":
                log.decide(key, body.get("score"), body.get("comment"))
            else:
                log.sign(key)
                # the score is on the disk: tables and reports follow while the next one is read
                self.viewer.pool.submit(after_signing, self.viewer, self.number)
        except Her2PathError as exc:
            raise HTTPError(400, reason=header_safe(str(exc))) from exc
        self.answer(facts_of(log.reading(key)))
