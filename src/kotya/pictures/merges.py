"""A picture of byte-pair encoding being learned: words as rows of chips that grow together, a row a merge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kotya.errors import KotyaError
from kotya.pictures.canvas import FAINT, INK, RULE, legible, new_figure, save
from kotya.text.bpe import MergeStep, Pair

CHARACTER = "#eef1f4"
COLOURS = (
    "#f4a259",
    "#5b8e7d",
    "#bc4b51",
    "#5c7cba",
    "#c9a227",
    "#8e6c9e",
    "#4ba3a7",
    "#d1797f",
    "#7a9e3f",
    "#8a6552",
)
# All in inches.
LETTER, CHIP, ROW, GAP, MARGIN = 0.28, 0.32, 0.64, 0.34, 0.35
LABEL, BARS = 1.75, 2.2
SHOWN = 4  # pairs whose counts are drawn beside a step


@dataclass
class Canvas:
    """An axis in inches, y downwards, and a colour for every symbol that a merge makes."""

    axis: Any
    colours: dict[str, str]

    def text(
        self, x: float, y: float, content: str, size: float = 10, colour: str = INK, **options: Any
    ) -> None:
        """Text, centred on y."""
        self.axis.text(x, y, legible(content), fontsize=size, color=colour, va="center", **options)

    def chips(self, x: float, y: float, symbols: Sequence[str], new: str | None) -> None:
        """A word: a chip a symbol, as wide as its letters; the ones just made are outlined."""
        from matplotlib.patches import FancyBboxPatch

        for symbol in symbols:
            width = LETTER * len(symbol)
            chip = FancyBboxPatch(
                (x + 0.025, y - CHIP / 2),
                width - 0.05,
                CHIP,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=self.colours.get(symbol, CHARACTER),
                edgecolor=INK if symbol == new else "none",
                linewidth=1.4,
            )
            self.axis.add_patch(chip)
            merged = symbol in self.colours
            for place, letter in enumerate(symbol):
                self.text(
                    x + (place + 0.5) * LETTER,
                    y - 0.005,
                    letter,
                    size=11,
                    colour="white" if merged else INK,
                    ha="center",
                    fontweight="bold" if merged else "normal",
                )
            x += width

    def merge(self, x: float, y: float, number: int, pair: Pair) -> None:
        """`1  a + t`, the number faint."""
        self.text(x + 0.2, y, str(number), size=9, colour=FAINT, ha="right")
        self.text(
            x + 0.36,
            y,
            f"{pair[0]} + {pair[1]}",
            size=11,
            fontweight="bold",
            colour=self.colours["".join(pair)],
        )

    def bars(self, x: float, y: float, step: MergeStep, longest: int) -> None:
        """The most frequent pairs as bars, the chosen one in its colour."""
        from matplotlib.patches import Rectangle

        shown = list(step.counts.items())[:SHOWN]
        pitch = min(0.15, (ROW - 0.08) / len(shown))
        top = y - pitch * (len(shown) - 1) / 2
        for place, (pair, count) in enumerate(shown):
            chosen = pair == step.chosen
            colour = self.colours["".join(pair)] if chosen else "#cdd5dc"
            middle = top + place * pitch
            width = max(count / longest * (BARS - 1.1), 0.02)
            self.text(x + 0.62, middle, " ".join(pair), size=6.5, colour=INK if chosen else FAINT, ha="right")
            self.axis.add_patch(Rectangle((x + 0.7, middle - 0.045), width, 0.09, facecolor=colour))
            self.text(x + 0.76 + width, middle, str(count), size=6.5, colour=INK if chosen else FAINT)

    def rule(self, y: float, start: float, stop: float) -> None:
        """A thin line across."""
        self.axis.plot([start, stop], [y, y], color=RULE, linewidth=0.8, zorder=0)


def draw_merges(
    counts: Mapping[str, int],
    steps: Sequence[MergeStep],
    segmentation: Sequence[tuple[Pair | None, tuple[str, ...]]],
    path: Path,
) -> None:
    """Draw the merge table growing on word counts, and below it how one word is segmented by it.

    Raises KotyaError where the path is no picture's, and where the picture would be too large to look at.
    """
    if not steps:
        raise KotyaError("there is nothing to merge: every word is one character")
    starts, x = {}, MARGIN + LABEL
    for word in counts:
        starts[word] = x
        x += LETTER * max(len(word), 2) + GAP
    applied = LETTER * sum(map(len, segmentation[0][1])) if segmentation else 0.0
    width = max(x - GAP + 0.35 + BARS + MARGIN, MARGIN + LABEL + applied + MARGIN)
    below = 0.75 + ROW * 0.8 * len(segmentation) if segmentation else 0.0
    height = MARGIN + 0.95 + ROW * (len(steps) + 1) + below + MARGIN * 0.5
    figure = new_figure(width, height, smaller="give fewer words, or fewer merges with --steps")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.axis("off")
    made = dict.fromkeys("".join(step.chosen) for step in steps)
    canvas = Canvas(axis, {symbol: COLOURS[i % len(COLOURS)] for i, symbol in enumerate(made)})
    bottom = draw_learning(canvas, counts, steps, starts, width)
    if segmentation:
        draw_segmentation(canvas, steps, segmentation, bottom, width)
    save(figure, path)


def draw_learning(
    canvas: Canvas,
    counts: Mapping[str, int],
    steps: Sequence[MergeStep],
    starts: Mapping[str, float],
    width: float,
) -> float:
    """The table: a row a step. Returns where it ends."""
    y = MARGIN
    canvas.text(MARGIN, y, "Learning: the most frequent pair becomes one symbol", size=13, fontweight="bold")
    y += 0.5
    bars = width - MARGIN - BARS
    for word, start in starts.items():
        canvas.text(start + 0.03, y, f"×{counts[word]}", size=9, colour=FAINT)
    canvas.text(bars + 0.7, y, "pairs and their counts", size=9, colour=FAINT)
    y += 0.42
    canvas.text(MARGIN + 0.36, y, "characters", size=10, colour=FAINT)
    for word, start in starts.items():
        canvas.chips(start, y, tuple(word), None)
    longest = max(max(step.counts.values()) for step in steps)
    for number, step in enumerate(steps, start=1):
        y += ROW
        canvas.rule(y - ROW / 2, MARGIN, width - MARGIN)
        canvas.merge(MARGIN, y, number, step.chosen)
        for word, start in starts.items():
            canvas.chips(start, y, step.words[word], "".join(step.chosen))
        canvas.bars(bars, y, step, longest)
    return y + ROW / 2


def draw_segmentation(
    canvas: Canvas,
    steps: Sequence[MergeStep],
    segmentation: Sequence[tuple[Pair | None, tuple[str, ...]]],
    y: float,
    width: float,
) -> None:
    """How a word is segmented: its characters, then every merge that applies, first learned first."""
    order = {step.chosen: number for number, step in enumerate(steps, start=1)}
    canvas.axis.plot([MARGIN, width - MARGIN], [y + 0.05] * 2, color=INK, linewidth=1)
    y += 0.4
    word = "".join(segmentation[0][1])
    canvas.text(MARGIN, y, f"Applying: “{word}”, first learned, first merged", size=13, fontweight="bold")
    y += 0.5
    for pair, symbols in segmentation:
        if pair is None:
            canvas.text(MARGIN + 0.36, y, "characters", size=10, colour=FAINT)
        else:
            canvas.merge(MARGIN, y, order[pair], pair)
        canvas.chips(MARGIN + LABEL, y, symbols, "".join(pair) if pair else None)
        y += ROW * 0.8
