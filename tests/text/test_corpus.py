"""Readers: what they accept, and the one clear error for what they do not."""

import gzip
import io
from pathlib import Path

import pytest

from kotya.errors import KotyaError
from kotya.text.corpus import TextSource, parallel_marked, read_input, read_lines, read_parallel


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize(
    "content", [b"one\ntwo\n", b"one\r\ntwo\r\n", b"one\ntwo", b"\xef\xbb\xbfone\ntwo\n"]
)
def test_line_ends_byte_order_mark_and_gzip_change_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    assert list(read_lines(write(tmp_path / name, content))) == ["one", "two"]


def test_standard_input_is_read_as_files_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(content: bytes) -> list[str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        return list(read_input(None))

    assert read(b"\xef\xbb\xbfone\r\ntwo\n\xef\xbb\xbf\nlast") == ["one", "two", "\ufeff", "last"]
    assert read(b"") == []
    with pytest.raises(KotyaError, match="standard input, line 2: not valid UTF-8"):
        read(b"one\n\xff\n")


def test_only_newlines_end_a_line(tmp_path: Path) -> None:
    text = "a\u2028b\x85c\x0bd\x0ce\x1ef\rg"
    assert list(read_lines(write(tmp_path / "a", f"{text}\n\nlast".encode()))) == [text, "", "last"]


def test_reading_streams(tmp_path: Path) -> None:
    lines = read_lines(write(tmp_path / "a", b"fine\n" * 3 + b"\xff\n"))
    assert [next(lines) for _ in range(3)] == ["fine"] * 3  # the fault of line 4 is not met before line 4
    with pytest.raises(KotyaError, match=r"a:4: not valid UTF-8"):
        next(lines)


def test_a_line_of_a_million_characters(tmp_path: Path) -> None:
    assert [len(line) for line in read_lines(write(tmp_path / "a.gz", b"x" * 10**6 + b"\ny\n"))] == [10**6, 1]


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(KotyaError, match=r"nothing.txt: there is no such file"):
        list(read_lines(tmp_path / "nothing.txt"))
    with pytest.raises(KotyaError, match=r"a folder, where a text file is expected"):
        list(read_lines(tmp_path))
    for name in ("empty", "empty.gz"):
        with pytest.raises(KotyaError, match=rf"{name}: the file is empty"):
            list(read_lines(write(tmp_path / name, b"")))


def test_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(b"a line\n" * 1000)
    for content in (b"plain text\n", whole[:-20], whole[:40] + b"\x00\x00" + whole[42:]):
        (tmp_path / "bad.gz").write_bytes(content)
        with pytest.raises(KotyaError, match=r"bad.gz: not a whole gzip file"):
            list(read_lines(tmp_path / "bad.gz"))


@pytest.mark.parametrize("counts", [(3, 5), (5, 3)])
def test_unequal_counts_name_both(tmp_path: Path, counts: tuple[int, int]) -> None:
    source, target = (write(tmp_path / f"train.{i}", b"x\n" * count) for i, count in enumerate(counts))
    with pytest.raises(KotyaError) as error:
        list(read_parallel(source, target))
    assert f"train.0 has {counts[0]} lines but" in str(error.value)
    assert f"train.1 has {counts[1]};" in str(error.value)


def test_parallel_invalid_utf8_names_its_own_file(tmp_path: Path) -> None:
    source, target = write(tmp_path / "s", b"a\nb\n"), write(tmp_path / "t", b"a\n\xff\xfe\n")
    with pytest.raises(KotyaError, match=r"t:2: not valid UTF-8"):
        list(read_parallel(source, target))
    marked = [(one, two) for *_, one, two in parallel_marked(TextSource.of(source), TextSource.of(target))]
    assert marked == [("a", "a"), ("b", None)]


def test_several_files_are_one_source(tmp_path: Path) -> None:
    ones = [write(tmp_path / "1.s.gz", b"a\nb\n"), write(tmp_path / "2.s", b"c\n")]
    twos = [write(tmp_path / "1.t", b"A\nB\n"), write(tmp_path / "2.t", b"C\n")]
    assert list(read_parallel(ones, twos)) == [("a", "A"), ("b", "B"), ("c", "C")]
    with pytest.raises(KotyaError, match=r"2 source files .* but 1 target files"):
        list(read_parallel(ones, twos[:1]))


def test_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.tsv", b"1\thallo\thello\n2\twelt\tworld\n")
    source, target = TextSource.columns(path, ["-", "source", "target"], ["source", "target"])
    assert list(read_parallel(source, target)) == [("hallo", "hello"), ("welt", "world")]
    with pytest.raises(KotyaError, match="do not say which one is 'target'"):
        TextSource.columns(path, ["source", "-"], ["source", "target"])
    with pytest.raises(KotyaError, match=r"pairs.tsv:1: column 4 is wanted but the line has 3"):
        list(TextSource((path,), 3).lines())
