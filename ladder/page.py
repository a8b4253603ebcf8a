"""The table of a ladder as Markdown."""

from collections.abc import Sequence

from ladder.climb import Record
from ladder.rungs import COMMIT, REPOSITORY, Ladder

COLUMNS = ("recipe", "parameters", "training, minutes", "tokens/s", "BLEU", "chrF", "seed")


def page(ladder: Ladder, records: Sequence[Record], figure: str | None) -> str:
    """The page for the rungs that were climbed; `figure` is the file of the picture beside it."""
    parts = [f"# {ladder.title}", about(ladder, records), table(ladder, records), conditions(records)]
    missing = [rung for rung in ladder.rungs if rung not in {record.rung for record in records}]
    if missing:
        parts.append(f"Not climbed yet: {', '.join(missing)}.")
    if ladder.marks:
        parts.append(published(ladder))
    if figure is not None:
        parts += [
            "## Length",
            "Left: BLEU against the words of the source (the figure with which Bahdanau, Cho and Bengio 2015 showed "
            "that one vector does not hold a long sentence). Right: the time the encoder takes for one sentence.",
            f"![BLEU and time of the encoder against the length of the source]({figure})",
        ]
    return "\n\n".join(parts) + "\n"


def about(ladder: Ladder, records: Sequence[Record]) -> str:
    """What the page is, and how it was made."""
    tests = " and ".join(dict.fromkeys(f"`{one.test}` ({one.lines:,} lines)" for one in records))
    made = "make ladder" if ladder.corpus == "multi30k" else f"make ladder-{ladder.corpus}"
    return (
        f"Made by `{made}`: the recipes of `recipes/{ladder.corpus}/`, the same data and vocabulary for all, "
        f"scored on {tests}."
    )


def table(ladder: Ladder, records: Sequence[Record]) -> str:
    """One row a rung, in the order of the ladder."""
    columns = (*COLUMNS, "published BLEU") if ladder.marks else COLUMNS
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    for record in sorted(records, key=lambda one: ladder.rungs.index(one.rung)):
        scores = {score.name: f"{score.value:.2f}" for score in record.scores}
        cells = [
            record.rung,
            f"{record.parameters:,}",
            f"{record.minutes:.1f}",
            f"{record.tokens_per_second:,.0f}",
            scores["BLEU"],
            scores["chrF"],
            str(record.seed),
        ]
        if ladder.marks:
            marks = ladder.marks.get(record.rung, ())
            cells.append(", ".join(f"{mark.bleu:.2f} ({mark.what})" for mark in marks) or "–")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def conditions(records: Sequence[Record]) -> str:
    """What the figures belong to: said once where it is the same for all rungs, else rung by rung."""
    facts = [
        ("trained on", [record.trained_on for record in records]),
        ("beam", [str(record.beam) for record in records]),
        ("measured", [record.date for record in records]),
        *(
            (name, [f"`{one.signature}`" for record in records for one in record.scores if one.name == name])
            for name in ("BLEU", "chrF")
        ),
    ]
    lines = [
        f"- {name}: {values[0]}"
        if len(set(values)) == 1
        else f"- {name}: "
        + "; ".join(f"{record.rung} {value}" for record, value in zip(records, values, strict=True))
        for name, values in facts
    ]
    lines.append(
        "- minutes: wall time of the training loop, with evaluations on the dev set and whatever else the machine did"
    )
    lines.append("- tokens/s: target tokens, while training")
    return "\n".join(lines)


def published(ladder: Ladder) -> str:
    """Where the published figures are from, and why they are a rough mark."""
    notebooks = ", ".join(
        f"{mark.what} from `{mark.notebook}…`" for marks in ladder.marks.values() for mark in marks
    )
    return (
        f"Published: the outputs stored in the notebooks of [bentrevett/pytorch-seq2seq]({REPOSITORY}/tree/{COMMIT}) "
        f"({notebooks}). They are on the 2016 test set too, but lowercased, on spaCy's words, by "
        "other BLEU code and by greedy search: a rough mark, no more."
    )
