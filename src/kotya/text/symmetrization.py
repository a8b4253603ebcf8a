"""Two alignments of a pair, one from each direction, made into one (Och and Ney 2003; Koehn, Och and Marcu 2003).

An aligner that gives each target word one source word finds no target word with two; the other direction finds no
source word with two. The intersection is precise, the union has recall, and growing goes from one towards the other.
"""

from bisect import bisect, insort
from collections.abc import Iterable
from typing import Literal, get_args

from kotya.text.alignments import Links

Heuristic = Literal["intersection", "union", "grow-diag-final-and"]
HEURISTICS: tuple[Heuristic, ...] = get_args(Heuristic)
_NEIGHBOURS = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


def symmetrize(forward: Links, backward: Links, heuristic: Heuristic = "grow-diag-final-and") -> Links:
    """`forward` gives target words their source words, `backward` the other way; both are (source, target)."""
    if heuristic == "intersection":
        return forward & backward
    if heuristic == "union":
        return forward | backward
    return grow_diag_final_and(forward, backward)


def grow_diag_final_and(forward: Links, backward: Links) -> Links:
    """From the intersection, take in neighbours that stand in the union as long as one of their two words is not
    linked yet; then links of `forward`, and of `backward`, both of whose words are not.

    What is taken in first matters. The order is that of Moses: target words, within them source words.
    """
    growing = _Growing(forward & backward)
    while growing.pass_over(forward | backward):
        pass
    growing.finish(forward)
    growing.finish(backward)
    return frozenset((source, target) for target, source in growing.points)


class _Growing:
    """Points (target, source) in order, and which words they cover."""

    def __init__(self, links: Iterable[tuple[int, int]]) -> None:
        self.points = sorted((target, source) for source, target in links)
        self.targets = {target for target, _ in self.points}
        self.sources = {source for _, source in self.points}

    def pass_over(self, union: Links) -> bool:
        """Look around every point once, those taken in behind it included; whether any was taken in."""
        place, before = 0, len(self.points)
        while place < len(self.points):
            target, source = self.points[place]
            for down, across in _NEIGHBOURS:
                new = (target + down, source + across)
                if (new[1], new[0]) in union and not (new[0] in self.targets and new[1] in self.sources):
                    place += bisect(self.points, new) <= place
                    self.add(new)
            place += 1
        return len(self.points) > before

    def finish(self, links: Links) -> None:
        """Take in the links of words neither of which is covered."""
        for target, source in sorted((target, source) for source, target in links):
            if target not in self.targets and source not in self.sources:
                self.add((target, source))

    def add(self, point: tuple[int, int]) -> None:
        insort(self.points, point)
        self.targets.add(point[0])
        self.sources.add(point[1])
