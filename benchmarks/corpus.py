"""The batches that every side of the training benchmark reads: Multi30k de→en in a joint BPE of 8,000.

Sentences are sorted by length and cut into batches of at most 4,096 target positions, padding included;
the batches are then shuffled by a fixed seed. Every side sees the same ids in the same order.
"""

import gzip
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SIZE = 8_000
TOKENS = 4_096
PAD, BEGIN, END = 0, 2, 3
FOLDER = Path(__file__).parent.parent / ".benchmarks"


def data_root() -> Path:
    """Where the corpora are: KOTYA_DATA, else `data` of the repository."""
    root = Path(os.environ.get("KOTYA_DATA", FOLDER.parent / "data"))
    if not (root / "multi30k").is_dir():
        sys.exit(f"no {root}/multi30k: set KOTYA_DATA to the folder that holds multi30k (see docs/data.md)")
    return root


def read(language: str) -> list[str]:
    with gzip.open(data_root() / "multi30k" / f"train.{language}.gz", "rt", encoding="utf-8") as file:
        return [line.strip() for line in file]


def prepare() -> Path:
    """Learn the BPE and write the token ids of the training set once; later calls find the file."""
    path = FOLDER / "multi30k.npz"
    if path.exists():
        return path
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    source, target = read("de"), read("en")
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=SIZE, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(source + target, trainer)
    pairs = [(tokenizer.encode(s).ids, tokenizer.encode(t).ids) for s, t in zip(source, target, strict=True)]
    pairs = [(s, t) for s, t in pairs if 0 < len(s) <= 200 and 0 < len(t) <= 200]
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        source=np.concatenate([np.array(s, np.int64) for s, _ in pairs]),
        target=np.concatenate([np.array(t, np.int64) for _, t in pairs]),
        source_lengths=np.array([len(s) for s, _ in pairs]),
        target_lengths=np.array([len(t) for _, t in pairs]),
    )
    partial.rename(path)
    return path


def sentences() -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of ids, without begin and end."""
    stored = np.load(prepare())
    source = np.split(stored["source"], np.cumsum(stored["source_lengths"])[:-1])
    target = np.split(stored["target"], np.cumsum(stored["target_lengths"])[:-1])
    return list(zip(source, target, strict=True))


def buckets(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[list[int]]:
    """Indices a batch: sorted by length, at most TOKENS target positions with end and padding."""
    order = sorted(range(len(pairs)), key=lambda i: (len(pairs[i][1]), len(pairs[i][0])))
    batches: list[list[int]] = [[]]
    for index in order:
        if batches[-1] and (len(batches[-1]) + 1) * (len(pairs[index][1]) + 1) > TOKENS:
            batches.append([])
        batches[-1].append(index)
    return [batches[i] for i in np.random.default_rng(1).permutation(len(batches))]


def padded(rows: list[np.ndarray], *, before: list[int], after: list[int], pad: int) -> np.ndarray:
    extra = len(before) + len(after)
    batch = np.full((len(rows), max(len(row) for row in rows) + extra), pad, np.int64)
    for line, row in zip(batch, rows, strict=True):
        line[: len(row) + extra] = [*before, *row, *after]
    return batch


def batches() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """Source with end, decoder inputs (begin + y), outputs (y + end), the count of real outputs; for ever."""
    pairs = sentences()
    while True:
        for indices in buckets(pairs):
            source = padded([pairs[i][0] for i in indices], before=[], after=[END], pad=PAD)
            inputs = padded([pairs[i][1] for i in indices], before=[BEGIN], after=[], pad=PAD)
            outputs = padded([pairs[i][1] for i in indices], before=[], after=[END], pad=PAD)
            yield source, inputs, outputs, int((outputs != PAD).sum())


if __name__ == "__main__":
    stream = batches()
    counts = [next(stream) for _ in range(len(buckets(sentences())))]
    real = sum(count for *_, count in counts)
    positions = sum(outputs.size for _, _, outputs, _ in counts)
    print(f"{len(counts)} batches; {real / positions:.1%} of target positions are real")
