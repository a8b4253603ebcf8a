"""The vocabulary of an encoder: WordPiece or BPE learned from its texts, with [MASK], or read from a file.

vocabulary: {kind: wordpiece, size: 8000, lowercase: true}        learned
vocabulary: {file: mine/tokenizer.json}                           of another, or of a model folder
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from kotya.config import Config, wrong
from kotya.errors import KotyaError
from kotya.text import bpe
from kotya.text.vocabularies import open_vocabulary
from kotya.text.vocabulary import Vocabulary

LEARNED = {"kind": "wordpiece", "size": 8000, "lowercase": False}


class EncoderVocabularyConfig(Config):
    """Where the vocabulary comes from."""

    kind: Literal["wordpiece", "bpe"] | None = None
    """WordPiece, as BERT's (the default), or BPE that loses nothing."""
    size: int | None = Field(default=None, gt=bpe.RESERVED)
    """Pieces of a learned vocabulary; 8,000 by default."""
    lowercase: bool | None = None
    """Of WordPiece: small letters only, without accents; false by default."""
    file: str | None = None
    """Instead of learning: a tokenizer.json or a model folder below the data root."""

    @model_validator(mode="before")
    @classmethod
    def _learn_by_default(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("file") is not None:
            return given
        return {**LEARNED, **{key: value for key, value in given.items() if value is not None}}

    @model_validator(mode="after")
    def _learned_or_read(self) -> "EncoderVocabularyConfig":
        for key in ("kind", "size", "lowercase"):
            if self.file is not None and getattr(self, key) is not None:
                raise wrong((key,), "says how to learn a vocabulary; here `file` names one", self.file)
        if self.kind == "bpe" and self.lowercase:
            raise wrong(("lowercase",), "BPE keeps a text as it is; only wordpiece has it", self.lowercase)
        return self

    def make(self, lines: Callable[[], Iterable[str]], root: Path) -> Vocabulary:
        """Read it, or learn it from lines. Raises KotyaError for a file that is none."""
        if self.file is not None:
            return open_vocabulary(root / self.file, None)
        assert self.size is not None
        if self.kind == "bpe":
            return Vocabulary.learn_masked(lines, self.size)
        return Vocabulary.learn_wordpiece(lines, self.size, lowercase=bool(self.lowercase))


def checked(vocabulary: Vocabulary, path: Path) -> Vocabulary:
    """Raises KotyaError where there is no mask: such a vocabulary is a translator's."""
    if vocabulary.mask is None:
        raise KotyaError(f"{path}: no vocabulary of an encoder: none of its pieces is the mask")
    return vocabulary
