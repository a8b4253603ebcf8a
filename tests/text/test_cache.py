"""The token cache: what was encoded is read, dropped pairs are counted, stale or damaged caches are built again."""

import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from kotya.errors import KotyaError
from kotya.text import cache
from kotya.text.cache import ParallelTokens, TokenCache, first_of_equals
from kotya.text.cleaning import CleaningConfig
from kotya.text.corpus import TextSource
from kotya.text.vocabulary import Vocabulary

SOURCE = ["ein Mann", "", "eine Frau ist hier", "ein Mann", "x " * 50, "日本 語", "kurz"]
TARGET = ["a man", "empty", "a woman is here", "a man", "y " * 50, "Japanese", "short"]


class Corpus:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source, self.target = folder / "train.s", folder / "train.t"
        self.write(SOURCE, TARGET)
        self.vocabularies = (Vocabulary.learn(lambda: SOURCE, 280), Vocabulary.learn(lambda: TARGET, 285))

    def write(self, source: list[str], target: list[str]) -> None:
        self.source.write_text("".join(f"{line}\n" for line in source), encoding="utf-8")
        self.target.write_text("".join(f"{line}\n" for line in target), encoding="utf-8")

    def open(self, processes: int | None = None, **settings: object) -> ParallelTokens:
        return TokenCache.open_or_build(
            TextSource.of(self.source),
            TextSource.of(self.target),
            self.vocabularies,
            CleaningConfig(**settings),
            self.folder / "cache",
            processes=processes,
            progress=False,
        )

    def caches(self) -> list[str]:
        return sorted(os.listdir(self.folder / "cache"))


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


def test_what_is_read_is_what_was_encoded(corpus: Corpus) -> None:
    tokens = corpus.open()
    kept = [row for row, line in enumerate(SOURCE) if line]
    assert len(tokens) == len(kept)
    for index, row in enumerate(kept):
        assert tokens.text(index) == (SOURCE[row], TARGET[row])
        assert tokens.source(index).tolist() == corpus.vocabularies[0].encode(SOURCE[row])
        assert tokens.target(index).tolist() == corpus.vocabularies[1].encode(TARGET[row])
        assert tokens.source_lengths[index] == len(tokens.source(index))
        assert tokens.target_lengths[index] == len(tokens.target(index))
    assert isinstance(tokens._ids[0], np.memmap)
    with pytest.raises(IndexError):
        tokens.source(len(tokens))


def test_dropped_pairs_are_counted_by_reason(corpus: Corpus) -> None:
    tokens = corpus.open(max_length=40, max_ratio=2.5, duplicates="drop")
    ratio = sum(
        max(sizes) > 2.5 * min(sizes)
        for sizes in (
            (len(corpus.vocabularies[0].encode(one)), len(corpus.vocabularies[1].encode(two)))
            for one, two in zip(SOURCE, TARGET, strict=True)
        )
        if min(sizes) > 0 and max(sizes) <= 40
    )
    assert tokens.report == {
        "kept": 4 - ratio,
        "empty": 1,
        "not UTF-8": 0,
        "too short": 0,
        "too long": 1,
        "length ratio": ratio,
        "duplicate": 1,
    }
    assert len(tokens) == tokens.report["kept"]
    texts = [tokens.text(i) for i in range(len(tokens))]
    assert len(set(texts)) == len(texts)
    assert texts == sorted(texts, key=lambda pair: SOURCE.index(pair[0]))


def test_invalid_utf8_stops_or_is_counted(corpus: Corpus) -> None:
    corpus.source.write_bytes(b"ok\n\xff\xfe\nfine\n")
    corpus.target.write_text("a\nb\nc\n")
    with pytest.raises(KotyaError, match=r"train.s:2: not valid UTF-8.*invalid: drop"):
        corpus.open()
    assert corpus.caches() == []  # nothing half-written
    tokens = corpus.open(invalid="drop")
    assert tokens.report["not UTF-8"] == 1
    assert [tokens.text(i) for i in range(2)] == [("ok", "a"), ("fine", "c")]


def test_a_cache_is_used_again_and_rebuilt_when_stale(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = corpus.open()
    with monkeypatch.context() as patch:
        patch.setattr(cache, "build", lambda *_: pytest.fail("a cache that is there was built again"))
        assert corpus.open().folder == first.folder
    os.utime(corpus.source)
    assert corpus.open().folder == first.folder  # content counts, not time
    assert corpus.open(max_length=30).folder != first.folder
    corpus.write([*SOURCE[:-1], "neu"], TARGET)
    changed = corpus.open()
    assert changed.folder != first.folder
    assert changed.text(len(changed) - 1)[0] == "neu"
    corpus.vocabularies = (corpus.vocabularies[0], corpus.vocabularies[0])
    assert corpus.open().folder not in (first.folder, changed.folder)


def test_a_damaged_cache_is_built_again(corpus: Corpus) -> None:
    tokens = corpus.open()
    expected = [tokens.target(i).tolist() for i in range(len(tokens))]
    for name in ("target.ids", "cache.json", "source.starts", "target.text"):
        path = tokens.folder / name
        path.write_bytes(path.read_bytes()[:-4])
        again = corpus.open()
        assert [again.target(i).tolist() for i in range(len(again))] == expected


def test_workers_write_the_same(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHUNK_LINES", 2)
    settings = {"max_length": 40, "duplicates": "drop"}
    alone = {path.name: path.read_bytes() for path in corpus.open(processes=0, **settings).folder.iterdir()}
    for folder in (tmp_path / "cache").iterdir():
        folder.rename(tmp_path / "aside")
    workers = {path.name: path.read_bytes() for path in corpus.open(processes=2, **settings).folder.iterdir()}
    assert alone == workers


def test_misaligned_files_leave_nothing_behind(corpus: Corpus) -> None:
    corpus.write(SOURCE, TARGET[:-2])
    with pytest.raises(KotyaError, match=r"train.s has 7 lines but .*train.t has 5"):
        corpus.open()
    assert corpus.caches() == []


def test_what_a_killed_process_left_is_removed(corpus: Corpus) -> None:
    host = socket.gethostname()
    folder = f"{corpus.folder}/cache/.building-{host}-"
    code = f"import os; os.makedirs({folder!r} + f'{{os.getpid()}}-abc'); print(os.getpid())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    dead = int(done.stdout)
    others = {
        f".building-{host}-{os.getppid()}-abc",  # a living process's
        f".building-{host}-2-{dead}-abc",  # that of a machine whose name begins like ours
        f".building-{host}x-{dead}-abc",
        f".building-{host}-{dead}",  # not ours at all
    }
    for name in others:
        (corpus.folder / "cache" / name).mkdir()
    assert len(corpus.caches()) == 5
    corpus.open()
    assert {name for name in corpus.caches() if name.startswith(".")} == others


@pytest.mark.parametrize("damaged", [False, True])
def test_two_that_build_the_same_at_once_both_succeed(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    """Both are past looking for a cache (or have found it damaged) before either has built one."""
    expected = corpus.open()
    if damaged:
        (expected.folder / "cache.json").write_text("{")
    else:
        shutil.rmtree(expected.folder)
    together, build = Barrier(2), cache.build

    def slow(*arguments: object) -> None:
        together.wait(20)
        build(*arguments)  # type: ignore[arg-type]
        together.wait(20)

    monkeypatch.setattr(cache, "build", slow)
    with ThreadPoolExecutor(2) as pool:
        opened = [pool.submit(corpus.open) for _ in range(2)]
        for one in opened:
            tokens = one.result()
            assert [tokens.text(i) for i in range(len(tokens))] == [
                expected.text(i) for i in range(len(expected))
            ]
    assert corpus.caches() == [expected.folder.name]


def test_a_full_disk_leaves_nothing_behind(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.CacheWriter, "append", full)
    with pytest.raises(OSError, match="No space left"):
        corpus.open()
    assert corpus.caches() == []


def test_nothing_left_is_an_error(corpus: Corpus) -> None:
    corpus.write(["", ""], ["a", "b"])
    with pytest.raises(KotyaError, match="cleaning leaves no pair"):
        corpus.open()


def test_duplicates_found_in_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PART", 10)
    values = np.random.default_rng(1).integers(0, 40, 95).astype(np.uint64)
    first = sorted({int(value): place for place, value in reversed(list(enumerate(values)))}.values())
    assert first_of_equals(values).tolist() == first
