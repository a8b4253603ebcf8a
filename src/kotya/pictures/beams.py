"""The beam tree of a line: steps go across, the extensions looked at at each step down, the likeliest on top.

Drawn from what `kotya translate --trace` wrote (search/trace.py says what is in it). Bold is the winner, teal what else
ended or was still open when the search stopped; grey is what died out, with the step at which it did.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kotya.errors import KotyaError
from kotya.pictures.canvas import FAINT, INK, RULE, legible, new_figure, save

SPACE = "▁"
BEGIN, END = "‹begin›", "‹end›"
WINNER, ALIVE, GREY, PALE = "#1d5c7a", "#4c93a8", "#8794a1", "#f4f6f8"
# All in inches.
BOX, PITCH, GAP, MARGIN, TOP, BOTTOM = 0.27, 0.58, 0.5, 0.3, 1.15, 0.62

Role = Literal["winner", "alive", "dead"]


@dataclass(frozen=True)
class Node:
    """An extension that a step looked at; the root is what every hypothesis begins from."""

    id: int
    parent: int | None
    step: int
    """From 1; the root's is 0."""
    row: int
    """Its rank at that step, from 0."""
    piece: str
    sum: float
    """Σ log p up to here."""
    score: float
    fate: str


@dataclass(frozen=True)
class BeamTree:
    """A trace, read."""

    source: tuple[str, ...]
    nodes: tuple[Node, ...]
    """A parent before its children."""
    best: tuple[str, ...]
    """The pieces of the hypothesis that won."""

    @classmethod
    def read(cls, path: Path, number: int) -> "BeamTree":
        """The tree of line `number`, from 1. Raises KotyaError where the file holds no such tree."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise KotyaError(f"{path}: not a trace: it is not UTF-8 text") from None
        if not 1 <= number <= len(lines):
            raise KotyaError(f"{path}: has the traces of {len(lines):,} lines; there is no line {number:,}")
        try:
            return cls.parse(json.loads(lines[number - 1]))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise KotyaError(f"{path}:{number}: not a trace of `kotya translate --trace`") from None

    @classmethod
    def parse(cls, tree: Any) -> "BeamTree":
        """The tree of what was read from JSON.

        Raises KotyaError where nothing was searched, KeyError or TypeError where it is no trace.
        """
        nodes = [Node(0, None, 0, 0, BEGIN, 0.0, 0.0, "open")]
        for step, found in enumerate(tree["steps"], start=1):
            for row, one in enumerate(found["extensions"]):
                piece = END if one["fate"] == "finished" or "ended" in one["fate"] else one["piece"]
                nodes.append(
                    Node(one["id"], one["parent"], step, row, piece, one["sum"], one["score"], one["fate"])
                )
        if len(nodes) == 1 or not tree["hypotheses"]:
            raise KotyaError("nothing was searched for that line: there is no tree to draw")
        return cls(tuple(tree["source"]), tuple(nodes), tuple(tree["hypotheses"][0]["pieces"]))

    @property
    def steps(self) -> int:
        """Of the search."""
        return self.nodes[-1].step

    def winner(self) -> tuple[int, ...]:
        """The ids from the root to the end of the best hypothesis."""
        by_id = {node.id: node for node in self.nodes}
        for leaf in self.nodes:
            if leaf.fate == "finished":
                path = [leaf]
                while (parent := path[-1].parent) is not None:
                    path.append(by_id[parent])
                if tuple(node.piece for node in path[-2:0:-1]) == self.best:
                    return tuple(node.id for node in reversed(path))
        return ()

    def roles(self) -> dict[int, Role]:
        """Who won, who else ended or was still open at the end, and who died out."""
        alive: set[int] = set()
        for node in reversed(self.nodes):
            if node.fate in ("finished", "stopped"):
                alive.add(node.id)
            if node.id in alive and node.parent is not None:
                alive.add(node.parent)
        won = set(self.winner())
        return {
            node.id: "winner" if node.id in won else "alive" if node.id in alive else "dead"
            for node in self.nodes
        }

    def deaths(self) -> dict[int, int]:
        """For everyone who died out, the step at which the last of its line was pruned."""
        roles = self.roles()
        # an open hypothesis none of whose extensions was among those looked at is pruned at the next step
        last = {node.id: node.step + (node.fate == "open") for node in self.nodes}
        for node in reversed(self.nodes):
            if node.parent is not None:
                last[node.parent] = max(last[node.parent], last[node.id])
        return {id: step for id, step in last.items() if roles[id] == "dead"}


def shown(piece: str) -> str:
    """A piece as it stands on a node: one that goes on with a word has a dot before it."""
    if piece in (BEGIN, END):
        return piece
    word = legible(piece.removeprefix(SPACE))
    return (word or "␣") if piece.startswith(SPACE) else f"·{word}"


def text_of(pieces: Sequence[str]) -> str:
    """Pieces as the text that they spell."""
    return legible("".join(pieces).replace(SPACE, " ").strip())


def number(value: float) -> str:
    """With a real minus."""
    return f"{value:.2f}".replace("-", "−")


def draw_beams(tree: BeamTree, path: Path) -> None:
    """Draw the tree. Raises KotyaError where it would be too large to look at."""
    widths = [column_width(tree, step) for step in range(tree.steps + 1)]
    starts = [MARGIN]
    for width in widths[:-1]:
        starts.append(starts[-1] + width + GAP)
    title = f"{text_of(tree.source)}  →  {text_of(tree.best)}"
    rows = 1 + max(node.row for node in tree.nodes)
    width = max(starts[-1] + widths[-1] + MARGIN, 0.105 * len(title) + 2 * MARGIN, 8.6)
    height = TOP + rows * PITCH + BOTTOM
    figure = new_figure(width, height)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.axis("off")
    axis.text(MARGIN, 0.36, title, fontsize=13, fontweight="bold", color=INK, va="center")
    for step, (start, wide) in enumerate(zip(starts, widths, strict=True)):
        if step:
            label = f"step {step}" if step == 1 else str(step)
            axis.text(start + wide / 2, TOP - 0.38, label, fontsize=8, color=FAINT, ha="center", va="center")
    axis.plot([MARGIN, width - MARGIN], [TOP - 0.24] * 2, color=RULE, linewidth=0.8, zorder=0)
    draw_edges(axis, tree, starts, widths)
    draw_nodes(axis, tree, starts, widths)
    draw_legend(axis, height - 0.28)
    save(figure, path)


def column_width(tree: BeamTree, step: int) -> float:
    """Inches of the widest node of a step; what stands below a node is narrower type."""
    pieces = max(len(shown(node.piece)) for node in tree.nodes if node.step == step)
    ends = any(node.piece == END for node in tree.nodes if node.step == step)
    return max(0.2 + 0.088 * pieces, 1.05 if ends else 0.72)


def height_of(node: Node) -> float:
    """The middle of a node, in inches from the top."""
    return TOP + (node.row + 0.25) * PITCH


def draw_edges(axis: Any, tree: BeamTree, starts: Sequence[float], widths: Sequence[float]) -> None:
    """From each node to its parent: a curve that leaves and arrives level."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve

    by_id, roles = {node.id: node for node in tree.nodes}, tree.roles()
    looks = {"winner": (WINNER, 2.8, 3), "alive": (ALIVE, 1.4, 2), "dead": ("#d5dbe0", 0.9, 1)}
    for node in tree.nodes:
        if node.parent is None:
            continue
        parent = by_id[node.parent]
        begin, end = starts[parent.step] + widths[parent.step], starts[node.step]
        middle = (begin + end) / 2
        y, z = height_of(parent), height_of(node)
        colour, line, order = looks[roles[node.id]]
        curve = Curve([(begin, y), (middle, y), (middle, z), (end, z)], [1, 4, 4, 4])
        axis.add_patch(
            PathPatch(curve, facecolor="none", edgecolor=colour, linewidth=line, zorder=order, gid="edge")
        )


def draw_nodes(axis: Any, tree: BeamTree, starts: Sequence[float], widths: Sequence[float]) -> None:
    """A box with the piece, Σ log p below it, and what more there is to say."""
    roles, deaths = tree.roles(), tree.deaths()
    for node in tree.nodes:
        x, y, role = starts[node.step], height_of(node), roles[node.id]
        box(axis, x, y, widths[node.step], shown(node.piece), role)
        if node.parent is None:
            continue
        ended = node.fate == "finished"
        below = f"{number(node.sum)} → {number(node.score)}" if ended else number(node.sum)
        left, right = x + 0.04, x + widths[node.step] - 0.04
        colour = {"winner": WINNER, "alive": INK, "dead": GREY}[role]
        weight = "bold" if role == "winner" else "normal"
        axis.text(left, y + 0.215, below, fontsize=7, color=colour, va="center", fontweight=weight)
        note = f"✗{deaths[node.id]}" if node.id in deaths else "open" if node.fate == "stopped" else ""
        axis.text(right, y + 0.215, note, fontsize=7, color=colour, va="center", ha="right")


def box(axis: Any, x: float, y: float, width: float, text: str, role: Role) -> None:
    """A node."""
    from matplotlib.patches import FancyBboxPatch

    face = {"winner": WINNER, "alive": "white", "dead": PALE}[role]
    edge = {"winner": WINNER, "alive": ALIVE, "dead": "#e3e8ec"}[role]
    ink = {"winner": "white", "alive": INK, "dead": "#6f7d89"}[role]
    axis.add_patch(
        FancyBboxPatch(
            (x, y - BOX / 2),
            width,
            BOX,
            boxstyle="round,pad=0,rounding_size=0.09",
            facecolor=face,
            edgecolor=edge,
            linewidth=1.2,
            zorder=4,
        )
    )
    axis.text(
        x + width / 2,
        y - 0.005,
        text,
        fontsize=9.5,
        color=ink,
        ha="center",
        va="center",
        zorder=5,
        fontweight="bold" if role == "winner" else "normal",
    )


def legend() -> Iterator[tuple[Role, str]]:
    """What the boxes mean."""
    yield "winner", "won"
    yield "alive", "ended, or open when the search stopped"
    yield "dead", "died out (✗3: at step 3)"


def draw_legend(axis: Any, y: float) -> None:
    """One line at the bottom."""
    x = MARGIN
    for role, text in legend():
        box(axis, x, y, 0.36, "", role)
        axis.text(x + 0.44, y, text, fontsize=8, color=INK, va="center")
        x += 0.44 + 0.062 * len(text) + 0.3
    axis.text(x, y, "below: Σ log p  (→ score by length)", fontsize=8, color=FAINT, va="center")
