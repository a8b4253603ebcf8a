"""Token ids of a parallel corpus on the disk, memory-mapped, so that a corpus of any size trains in little memory.

A cache is a folder named by a hash of everything it is made from: the files' contents, the vocabularies, the cleaning
settings. Where any of it changes, another folder is built; a folder appears whole, by a rename, or not at all.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from kotya.errors import Fault, KotyaError
from kotya.text import cleaning
from kotya.text.cleaning import CleaningConfig
from kotya.text.corpus import Position, TextSource, not_utf8, parallel_marked
from kotya.text.vocabulary import Vocabulary

FORMAT = 1  # part of the key: raise it when the layout or the meaning of a cache changes
CHUNK_LINES = 4096
CHUNK_CHARACTERS = 1 << 22
# Below this many bytes of text starting worker processes costs more than they save.
PARALLEL_BYTES = 32 << 20
SIDES = ("source", "target")
PART = 1 << 22  # hashes compared at a time when looking for duplicates


@dataclass(frozen=True)
class Encoded:
    """A chunk of pairs as a worker hands it back: what is appended to the cache's files."""

    ids: tuple[bytes, bytes]
    lengths: tuple[bytes, bytes]
    texts: tuple[bytes, bytes]
    text_lengths: tuple[bytes, bytes]
    hashes: bytes
    report: dict[str, int]


class ParallelTokens:
    """A cache opened for reading: pairs of token ids (without special ones), their lengths and texts, by index."""

    def __init__(self, folder: Path) -> None:
        """Raises Fault where the folder is not a whole cache."""
        self.folder = folder
        try:
            description = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
            self.report: dict[str, int] = description["report"]
            self._ids = [
                mapped(folder / f"{side}.ids", kind)
                for side, kind in zip(SIDES, description["kinds"], strict=True)
            ]
            self._lengths = [mapped(folder / f"{side}.lengths", "int32") for side in SIDES]
            self._starts = [mapped(folder / f"{side}.starts", "int64") for side in SIDES]
            self._texts = [mapped(folder / f"{side}.text", "uint8") for side in SIDES]
            self._text_starts = [mapped(folder / f"{side}.text.starts", "int64") for side in SIDES]
            self._kept = mapped(folder / "kept", "int64") if (folder / "kept").exists() else None
            whole = all(
                len(self._lengths[i]) + 1 == len(self._starts[i]) == len(self._text_starts[i])
                and int(self._starts[i][-1]) == len(self._ids[i])
                and int(self._text_starts[i][-1]) == len(self._texts[i])
                for i in range(2)
            )
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise Fault(
                f"{folder}: not a whole token cache ({error}); delete the folder and run again"
            ) from None
        if not whole:
            raise Fault(
                f"{folder}: not a whole token cache (a file was cut short); delete the folder and run again"
            )
        self.source_lengths: NDArray[np.int32] = self._chosen(self._lengths[0])
        self.target_lengths: NDArray[np.int32] = self._chosen(self._lengths[1])

    def _chosen(self, lengths: NDArray[Any]) -> NDArray[np.int32]:
        return lengths if self._kept is None else lengths[self._kept]

    def __len__(self) -> int:
        """How many pairs were kept."""
        return len(self.source_lengths)

    def source(self, index: int) -> NDArray[np.int64]:
        """The source ids of a pair."""
        return self._read(0, index)

    def target(self, index: int) -> NDArray[np.int64]:
        """The target ids of a pair."""
        return self._read(1, index)

    def text(self, index: int) -> tuple[str, str]:
        """The two lines of a pair, as they stood in the files."""
        row = self._row(index)
        one, two = (
            bytes(texts[starts[row] : starts[row + 1]]).decode("utf-8")
            for texts, starts in zip(self._texts, self._text_starts, strict=True)
        )
        return one, two

    def _row(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        return int(index) if self._kept is None else int(self._kept[index])

    def _read(self, side: int, index: int) -> NDArray[np.int64]:
        row, starts = self._row(index), self._starts[side]
        return self._ids[side][starts[row] : starts[row + 1]].astype(np.int64)


class TokenCache:
    """Builds caches, and opens those that are built."""

    @staticmethod
    def open_or_build(
        source: TextSource,
        target: TextSource,
        vocabularies: tuple[Vocabulary, Vocabulary],
        cleaning: CleaningConfig,
        directory: Path,
        *,
        processes: int | None = None,
        progress: bool = True,
    ) -> ParallelTokens:
        """The cache of these files below `directory`, built first where it is not there yet.

        `processes`: by default as many workers as the machine has cores, none for small files. Raises KotyaError for
        files that are bad input (see corpus) or of which cleaning leaves nothing; a damaged cache is built again.
        """
        folder = Path(directory) / cache_key(source, target, vocabularies, cleaning)
        if folder.is_dir():
            try:
                return ParallelTokens(folder)
            except Fault:
                remove_damaged(folder)
        total = sum(path.stat().st_size for path in source.paths)
        if processes is None:
            processes = len(os.sched_getaffinity(0)) if total > PARALLEL_BYTES else 0
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder.parent)
        building = fresh_name(folder.parent)
        building.mkdir()
        try:
            build(building, source, target, vocabularies, cleaning, processes, total if progress else None)
            put_in_place(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return ParallelTokens(folder)


def cache_key(
    source: TextSource,
    target: TextSource,
    vocabularies: tuple[Vocabulary, Vocabulary],
    cleaning: CleaningConfig,
) -> str:
    """A hash of all that a cache is made from."""
    parts: list[Any] = [FORMAT, cleaning.model_dump_json(), *(one.fingerprint for one in vocabularies)]
    for side in (source, target):
        parts.append(side.column)
        parts.extend(content_hash(path) for path in side.paths)
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def content_hash(path: Path) -> str:
    """The hash of a file's bytes as they lie on the disk."""
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except FileNotFoundError:
        raise KotyaError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise KotyaError(f"{path}: a folder, where a text file is expected") from None


def building_prefix() -> str:
    """How the names of folders begin that processes of this machine work in."""
    return f".building-{socket.gethostname()}-"


def fresh_name(directory: Path) -> Path:
    """A name for a folder to work in that nobody else has, not in another thread either."""
    return directory / f"{building_prefix()}{os.getpid()}-{uuid.uuid4().hex}"


def put_in_place(building: Path, folder: Path) -> None:
    """Give a cache its name. Another process may have been faster; its cache is the same, and stays."""
    try:
        building.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def remove_damaged(folder: Path) -> None:
    """Out of sight in one step, so that of several processes that find it each can build it again."""
    aside = fresh_name(folder.parent)
    with suppress(FileNotFoundError):  # another process was faster
        folder.rename(aside)
        shutil.rmtree(aside)


def remove_abandoned(directory: Path) -> None:
    """What processes of this machine that were killed while they built have left."""
    ours = re.compile(re.escape(building_prefix()) + r"(\d+)-[0-9a-f]+")
    for building in directory.iterdir():
        name = ours.fullmatch(building.name)
        if name is None:
            continue
        try:
            os.kill(int(name[1]), 0)  # signal 0 asks only whether it lives
        except ProcessLookupError:
            shutil.rmtree(building, ignore_errors=True)  # another process may be removing it too
        except PermissionError:
            continue  # another person's, and alive


# ── Building ──────────────────────────────────────────────────────────────────────────────────────────────


def build(
    folder: Path,
    source: TextSource,
    target: TextSource,
    vocabularies: tuple[Vocabulary, Vocabulary],
    cleaning_config: CleaningConfig,
    processes: int,
    total: int | None,
) -> None:
    """Write a cache into an empty folder; `total`: bytes of source files, for the progress bar, None for no bar."""
    report = dict.fromkeys(("kept", *cleaning.REASONS), 0)
    position = Position()
    chunks = read_chunks(source, target, cleaning_config, report, position)
    with ExitStack() as stack:
        bar = stack.enter_context(progress_bar(total))
        task = bar.add_task("Encoding", total=total)
        writer = stack.enter_context(CacheWriter(folder))
        for encoded in encode_chunks(chunks, vocabularies, cleaning_config, processes):
            writer.append(encoded)
            for reason, count in encoded.report.items():
                report[reason] += count
            bar.update(task, completed=position.done, pairs=report["kept"])
        bar.update(task, completed=total)
    if cleaning_config.duplicates == "drop":
        kept = first_of_equals(mapped(folder / "hashes", "uint64"))
        report[cleaning.DUPLICATE] = report["kept"] - len(kept)
        report["kept"] = len(kept)
        write_whole(folder / "kept", kept.tobytes())
    (folder / "hashes").unlink()
    if report["kept"] == 0:
        dropped = {reason: count for reason, count in report.items() if count}
        raise KotyaError(f"{source} and {target}: cleaning leaves no pair ({dropped}); see data.cleaning")
    description = {"kinds": [kind_of(one) for one in vocabularies], "report": report}
    write_whole(folder / "cache.json", json.dumps(description).encode())


def progress_bar(total: int | None, what: str = "pairs") -> Progress:
    """A bar on stderr, shown where a person looks at it."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[pairs]:,} " + what),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=total is None or not console.is_terminal,
    )


def read_chunks(
    source: TextSource, target: TextSource, config: CleaningConfig, report: dict[str, int], position: Position
) -> Iterator[list[tuple[str, str]]]:
    """Pairs in chunks, bounded in lines and in characters; lines that are not UTF-8 are counted or raised."""
    chunk: list[tuple[str, str]] = []
    characters = 0
    for path, other, number, one, two in parallel_marked(source, target, position):
        if one is None or two is None:
            if config.invalid == "error":
                raise not_utf8(path if one is None else other, number)
            report[cleaning.INVALID] += 1
            continue
        chunk.append((one, two))
        characters += len(one) + len(two)
        if len(chunk) == CHUNK_LINES or characters > CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def encode_chunks(
    chunks: Iterator[list[tuple[str, str]]],
    vocabularies: tuple[Vocabulary, Vocabulary],
    config: CleaningConfig,
    processes: int,
) -> Iterator[Encoded]:
    """The chunks encoded, in order; with workers, only a few chunks are under way at a time."""
    if processes == 0:
        for chunk in chunks:
            yield encode_chunk(chunk, vocabularies, config)
        return
    # Spawned, not forked: a fork of a process whose threads hold locks may hang.
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=start_worker, initargs=(vocabularies, config)
    ) as pool:
        under_way: deque[Future[Encoded]] = deque()
        try:
            for chunk in chunks:
                under_way.append(pool.submit(encode_in_worker, chunk))
                if len(under_way) > 2 * processes:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


_work: dict[str, Any] = {}  # what a worker process was started with


def start_worker(vocabularies: tuple[Vocabulary, Vocabulary], config: CleaningConfig) -> None:
    """Called once in each worker: keep the vocabularies, and one thread a process."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _work["vocabularies"], _work["config"] = vocabularies, config


def encode_in_worker(chunk: list[tuple[str, str]]) -> Encoded:
    """encode_chunk with what the worker was started with."""
    return encode_chunk(chunk, _work["vocabularies"], _work["config"])


def encode_chunk(
    chunk: list[tuple[str, str]], vocabularies: tuple[Vocabulary, Vocabulary], config: CleaningConfig
) -> Encoded:
    """Encode pairs, drop and count those that cleaning does not keep."""
    report = dict.fromkeys(("kept", *cleaning.REASONS), 0)
    sides = list(zip(*chunk, strict=True))
    encoded = [one.encode_batch(list(texts)) for one, texts in zip(vocabularies, sides, strict=True)]
    kept = []
    for row, (source, target) in enumerate(zip(*encoded, strict=True)):
        reason = config.reason(len(source), len(target))
        report[reason or "kept"] += 1
        if reason is None:
            kept.append(row)
    texts = [[chunk[row][side].encode("utf-8") for row in kept] for side in range(2)]
    hashes = [
        hashlib.blake2b(one + b"\n" + two, digest_size=8).digest() for one, two in zip(*texts, strict=True)
    ]
    ids = [[encoded[side][row] for row in kept] for side in range(2)]

    def lengths(rows: list[Any]) -> bytes:
        return np.array([len(row) for row in rows], dtype=np.int32).tobytes()

    def joined(side: int) -> bytes:
        kind = kind_of(vocabularies[side])
        return b"".join(np.array(row, dtype=kind).tobytes() for row in ids[side])

    return Encoded(
        ids=(joined(0), joined(1)),
        lengths=(lengths(ids[0]), lengths(ids[1])),
        texts=(b"".join(texts[0]), b"".join(texts[1])),
        text_lengths=(lengths(texts[0]), lengths(texts[1])),
        hashes=b"".join(hashes),
        report=report,
    )


class CacheWriter:
    """The files of a cache that grow chunk by chunk."""

    def __init__(self, folder: Path) -> None:
        names = [
            f"{side}.{part}" for side in SIDES for part in ("ids", "lengths", "starts", "text", "text.starts")
        ]
        self.files: dict[str, BinaryIO] = {name: (folder / name).open("wb") for name in [*names, "hashes"]}
        self.ends = dict.fromkeys((name for name in self.files if name.endswith("starts")), 0)
        for name in self.ends:
            self.files[name].write(np.zeros(1, dtype=np.int64).tobytes())

    def __enter__(self) -> "CacheWriter":
        return self

    def append(self, encoded: Encoded) -> None:
        """Write a chunk at the end of every file."""
        for index, side in enumerate(SIDES):
            self.files[f"{side}.ids"].write(encoded.ids[index])
            self.files[f"{side}.lengths"].write(encoded.lengths[index])
            self.files[f"{side}.text"].write(encoded.texts[index])
            self.write_starts(f"{side}.starts", encoded.lengths[index])
            self.write_starts(f"{side}.text.starts", encoded.text_lengths[index])
        self.files["hashes"].write(encoded.hashes)

    def write_starts(self, name: str, lengths: bytes) -> None:
        """Where each of the next rows ends, which is where the one after it starts."""
        starts = np.cumsum(np.frombuffer(lengths, dtype=np.int32), dtype=np.int64) + self.ends[name]
        if len(starts):
            self.ends[name] = int(starts[-1])
            self.files[name].write(starts.tobytes())

    def __exit__(self, kind: object, *_: object) -> None:
        """Close, and on success be sure that the bytes are on the disk before the folder gets its name."""
        for file in self.files.values():
            if kind is None:
                file.flush()
                os.fsync(file.fileno())
            file.close()


def first_of_equals(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The places, in order, of the first of every set of equal hashes; looks at a share of the hashes at a time."""
    duplicate = np.zeros(len(hashes), dtype=bool)
    shares = -(-len(hashes) // PART)
    for share in range(shares):
        places = np.concatenate(
            [
                start + np.flatnonzero(hashes[start : start + PART] % np.uint64(shares) == share)
                for start in range(0, len(hashes), PART)
            ]
        )
        values = hashes[places]
        order = np.argsort(values, kind="stable")
        repeats = np.flatnonzero(values[order][1:] == values[order][:-1]) + 1
        duplicate[places[order[repeats]]] = True
    return np.flatnonzero(~duplicate)


def kind_of(vocabulary: Vocabulary) -> str:
    """The smallest type that holds the ids."""
    return "uint16" if len(vocabulary) <= 1 << 16 else "uint32"


def mapped(path: Path, kind: str) -> NDArray[Any]:
    """A file's numbers, memory-mapped; nothing can be mapped of an empty file."""
    if path.stat().st_size == 0:
        return np.empty(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r")


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file through to the disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
