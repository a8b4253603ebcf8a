"""Plain text on the disk as piece ids, memory-mapped: documents of sentences, so that pretraining takes little memory.

A line is a sentence, or a paragraph that is cut behind . ! ? …; a blank line ends a document, so does a file, and
where neither comes for long, a million pieces do. A cache is a folder named by a hash of all that it is made from, as
those of parallel text (see cache).
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kotya.errors import Fault, KotyaError
from kotya.text.cache import (
    content_hash,
    fresh_name,
    kind_of,
    mapped,
    progress_bar,
    put_in_place,
    remove_abandoned,
    remove_damaged,
    write_whole,
)
from kotya.text.corpus import read_lines
from kotya.text.vocabulary import Vocabulary

FORMAT = 2  # part of the key: raise it when the layout or the meaning of a cache changes
CHUNK = 4096  # sentences encoded at a time
LARGEST = 1 << 20  # pieces of a document: examples are cut from a document at a time, in memory
SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][\"'”’»)])\s+|(?<=[。！？])")


class Documents:
    """A cache opened for reading. Pieces, sentences and documents each have numbers, running through all files."""

    def __init__(self, folder: Path) -> None:
        """Raises Fault where the folder is not a whole cache."""
        try:
            description = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
            self._ids = mapped(folder / "ids", description["kind"])
            self.sentences: NDArray[np.int64] = mapped(folder / "sentences", "int64")
            """Where each sentence begins, in pieces; and last, how many pieces there are."""
            self.documents: NDArray[np.int64] = mapped(folder / "documents", "int64")
            """Where each document begins, in sentences; and last, how many sentences there are."""
            whole = (
                int(self.documents[-1]) + 1 == len(self.sentences)
                and int(self.sentences[-1]) == len(self._ids) == description["pieces"]
            )
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise Fault(f"{folder}: not a whole token cache ({error}); delete it and run again") from None
        if not whole:
            raise Fault(f"{folder}: not a whole token cache (a file was cut short); delete it and run again")

    def __len__(self) -> int:
        """How many documents there are."""
        return len(self.documents) - 1

    @property
    def pieces(self) -> int:
        """How many pieces there are."""
        return len(self._ids)

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """The pieces of a span."""
        return self._ids[start:stop].astype(np.int64)

    @staticmethod
    def open_or_build(
        paths: Sequence[Path], vocabulary: Vocabulary, directory: Path, *, progress: bool = True
    ) -> "Documents":
        """The cache of these files below `directory`, built first where it is not there yet.

        Raises KotyaError for files that are bad input (see corpus), or hold no text.
        """
        parts = ["documents", FORMAT, vocabulary.fingerprint, *(content_hash(path) for path in paths)]
        folder = directory / hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
        if folder.is_dir():
            try:
                return Documents(folder)
            except Fault:
                remove_damaged(folder)
        directory.mkdir(parents=True, exist_ok=True)
        remove_abandoned(directory)
        building = fresh_name(directory)
        building.mkdir()
        try:
            build(building, paths, vocabulary, progress=progress)
            put_in_place(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return Documents(folder)


def build(folder: Path, paths: Sequence[Path], vocabulary: Vocabulary, *, progress: bool) -> None:
    """Write a cache into an empty folder."""
    kind, pieces, count, begun = kind_of(vocabulary), 0, 0, 0
    documents = [0]
    total = sum(path.stat().st_size for path in paths)
    with (
        progress_bar(total if progress else None, "sentences") as bar,
        open(folder / "ids", "wb") as ids,
        open(folder / "sentences", "wb") as starts,
    ):
        task = bar.add_task("Encoding", total=None, pairs=0)
        starts.write(np.zeros(1, np.int64).tobytes())
        texts = marked_sentences(paths)
        while chunk := list(islice(texts, CHUNK)):
            encoded = iter(vocabulary.encode_batch([text for text in chunk if text is not None]))
            for text in chunk:
                row = next(encoded) if text is not None else []
                if row:
                    ids.write(np.array(row, kind).tobytes())
                    pieces, count = pieces + len(row), count + 1
                    starts.write(np.array([pieces], np.int64).tobytes())
                if count > documents[-1] and (text is None or pieces - begun >= LARGEST):
                    documents.append(count)
                    begun = pieces
            bar.update(task, pairs=count)
    if count == 0:
        raise KotyaError(f"{', '.join(map(str, paths))}: there is no text")
    write_whole(folder / "documents", np.array(documents, np.int64).tobytes())
    write_whole(folder / "cache.json", json.dumps({"kind": kind, "pieces": pieces}).encode())


def marked_sentences(paths: Iterable[Path]) -> Iterator[str | None]:
    """The sentences of files in order; None where a document ends."""
    for path in paths:
        for line in read_lines(path):
            if line.isspace() or not line:
                yield None
            else:
                yield from sentences(line)
        yield None


def sentences(line: str) -> list[str]:
    """The sentences of a line. One behind a blank begins with it: some vocabularies have it in the first piece."""
    line = line.strip()
    gaps = list(SENTENCE_END.finditer(line))
    starts = [(0, ""), *((gap.end(), " " if gap.group() else "") for gap in gaps)]
    stops = [*(gap.start() for gap in gaps), len(line)]
    return [
        blank + line[start:stop] for (start, blank), stop in zip(starts, stops, strict=True) if start < stop
    ]
