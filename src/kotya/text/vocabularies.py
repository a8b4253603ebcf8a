"""The vocabularies of a run: learned from its training data, or read from files that others made.

    vocabulary: {size: 8000, joint: true}                                     learned
    vocabulary: {file: mine/tokenizer.json}                                   one for both languages
    vocabulary: {source: mine/ru.json, target: mine/en.json}                  one each

A file is what `kotya vocabulary learn` writes (with `--codes` from the codes of subword-nmt), or a model folder, whose
vocabularies it lends.
"""

from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from kotya.config import Config, DropoutRate, wrong
from kotya.errors import KotyaError
from kotya.text import bpe
from kotya.text.corpus import TextSource
from kotya.text.vocabulary import Vocabulary

LEARNED_SIZE = 8000
FILES = ("file", "source", "target")
Vocabularies = tuple[Vocabulary, Vocabulary]
Side = Literal["source", "target"]


class VocabularyConfig(Config):
    """Where the vocabularies come from, and how they are used in training."""

    size: int | None = Field(default=None, gt=bpe.RESERVED)
    """Pieces of a learned vocabulary, the 260 special pieces and bytes included; 8,000 by default."""
    joint: bool | None = None
    """Whether one vocabulary is learned for both languages, or one each; true by default."""
    file: str | None = None
    """Instead of learning: a tokenizer.json or a model folder below the data root, for both languages."""
    source: str | None = None
    """Or one for each side."""
    target: str | None = None
    dropout: DropoutRate = 0.0
    """BPE-dropout in training: how likely each merge is left out (Provilkov et al. 2020; 0.1 there)."""

    @model_validator(mode="before")
    @classmethod
    def _learn_by_default(cls, given: Any) -> Any:
        if isinstance(given, dict) and all(given.get(key) is None for key in FILES):
            chosen = {key: value for key, value in given.items() if value is not None}
            return {"size": LEARNED_SIZE, "joint": True, **chosen}
        return given

    @model_validator(mode="after")
    def _learned_or_read(self) -> "VocabularyConfig":
        files = [key for key in FILES if getattr(self, key) is not None]
        if not files:
            return self
        if files not in (["file"], ["source", "target"]):
            raise wrong(
                (files[0],), "vocabularies are read from one `file`, or from `source` and `target`", files
            )
        for key in ("size", "joint"):
            if getattr(self, key) is not None:
                raise wrong((key,), f"says how to learn a vocabulary; here `{files[0]}` names one", files)
        return self

    @property
    def shared(self) -> bool:
        """Whether both languages have the same vocabulary."""
        return self.file is not None or self.joint is True

    def make(self, source: TextSource, target: TextSource, root: Path) -> Vocabularies:
        """Read or learn the vocabularies of both sides; the very same object twice where they are joint.

        Raises KotyaError where a file is no vocabulary, or none that `dropout` can be used with.
        """
        made = self._learn(source, target) if self.size is not None else self._read(root)
        if self.dropout:
            for vocabulary in made:
                vocabulary.merge_table()
        return made

    def _learn(self, source: TextSource, target: TextSource) -> Vocabularies:
        assert self.size is not None
        # lines that are not UTF-8 are passed over: the token cache, which reads the files next, stops or counts them
        if self.joint:
            both = Vocabulary.learn(lambda: chain(source.valid_lines(), target.valid_lines()), self.size)
            return both, both
        one, two = (Vocabulary.learn(side.valid_lines, self.size) for side in (source, target))
        return one, two

    def _read(self, root: Path) -> Vocabularies:
        if self.file is not None:
            both = open_vocabulary(root / self.file, None)
            return both, both
        assert self.source is not None
        assert self.target is not None
        return open_vocabulary(root / self.source, "source"), open_vocabulary(root / self.target, "target")


def open_vocabulary(path: Path, side: Side | None) -> Vocabulary:
    """The vocabulary of a file, or of a model folder: that of the side, else the one for both languages.

    Raises KotyaError where there is none such.
    """
    if not path.is_dir():
        return Vocabulary.load(path)
    names = ["tokenizer.json"] if side is None else [f"{side}.tokenizer.json", "tokenizer.json"]
    for name in names:
        if (path / name).exists():
            return Vocabulary.load(path / name)
    raise KotyaError(f"{path}: a folder without {' or '.join(names)}")
