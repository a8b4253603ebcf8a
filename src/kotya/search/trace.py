"""The beam tree of a line, as it grew: every hypothesis with its parent, its scores and what became of it.

    {"line": 0, "source": [piece …], "prefix": [piece …],
     "steps": [{"open": [{"id", "distribution": [[piece, log p] …]} …],
                "extensions": [{"id", "parent", "token", "piece", "log_probability", "sum", "score", "fate"} …]} …],
     "hypotheses": [{"pieces", "log_probability", "score", "finished"} …]}

`open` are the hypotheses that the step extends, with the ten likeliest next pieces of each; `extensions` what was
looked at, likeliest first: an extension's `parent` is an open hypothesis, its `piece` what was chosen there.

Fates: `open`; `finished`; `pruned: beyond the beam` (likelier extensions took the places); `pruned: ended beyond
the beam` (an end counts only among the `beam` best); `stopped` (still open when the stop rule ended the search).
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from kotya.search.hypothesis import Hypothesis, SearchLine

if TYPE_CHECKING:
    from kotya.search.beam import Beam, Extensions


class LineTrace:
    """Collects the steps of one line. The root, before any free token, has the id 0."""

    def __init__(self, line: SearchLine) -> None:
        self.line = line
        self.steps: list[dict[str, Any]] = []
        self.open = [0]
        self.count = 1
        self.sums = {0: 0.0}

    def distributions(self, values: list[list[float]], tokens: list[list[int]]) -> None:
        """The likeliest next tokens of each open hypothesis."""
        rows = [
            {
                "id": i,
                "distribution": [[token, p] for token, p in zip(ids, row, strict=True) if p > -math.inf],
            }
            for i, row, ids in zip(self.open, values, tokens, strict=False)
        ]
        self.steps.append({"open": rows, "extensions": []})

    def step(self, extensions: "Extensions", place: int, order: Tensor, beam: "Beam", *, over: bool) -> None:
        """What became of the best extensions."""
        width = beam.config.beam
        kept = order[place].tolist()
        totals, parents, tokens = (
            x[place].tolist() for x in (extensions.total, extensions.parent, extensions.token)
        )
        ids: dict[int, int] = {}
        length = len(self.line.prefix) + len(self.steps)
        for rank, (total, parent, token) in enumerate(zip(totals, parents, tokens, strict=True)):
            if total == -math.inf:
                continue
            ids[rank], self.count = self.count, self.count + 1
            self.sums[ids[rank]] = total
            origin = self.open[parent]
            self.steps[-1]["extensions"].append(
                {
                    "id": ids[rank],
                    "parent": origin,
                    "token": token,
                    "log_probability": total - self.sums[origin],
                    "sum": total,
                    "score": total / beam.penalty(length),
                    "fate": _fate(rank, token == beam.roles.end, width, kept=rank in kept, over=over),
                }
            )
        self.open = [ids.get(rank, -1) for rank in kept]

    def tree(
        self,
        number: int,
        source: list[str],
        pieces: Callable[[Sequence[int]], list[str]],
        hypotheses: Sequence[Hypothesis],
    ) -> dict[str, Any]:
        """All of it as JSON, with pieces beside ids; `pieces` says how ids read."""
        for step in self.steps:
            for row in step["open"]:
                row["distribution"] = [[pieces([token])[0], p] for token, p in row["distribution"]]
            for extension in step["extensions"]:
                extension["piece"] = pieces([extension["token"]])[0]
        return {
            "line": number,
            "source": source,
            "prefix": pieces(self.line.prefix),
            "steps": self.steps,
            "hypotheses": [
                {
                    "pieces": pieces(one.tokens),
                    "log_probability": one.log_probability,
                    "score": one.score,
                    "finished": one.finished,
                }
                for one in hypotheses
            ],
        }


def _fate(rank: int, ends: bool, width: int, *, kept: bool, over: bool) -> str:
    if ends:
        return "finished" if rank < width else "pruned: ended beyond the beam"
    if not kept:
        return "pruned: beyond the beam"
    return "stopped" if over else "open"
