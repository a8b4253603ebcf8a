"""The real MarianMT model on Multi30k: ids and translations are those of `transformers`."""

import os
import warnings
from pathlib import Path

import pytest
from transformers import MarianTokenizer

from kotya.interop.marian import Marian, read_marian

DATA, MODELS = os.environ.get("KOTYA_DATA"), os.environ.get("KOTYA_MODELS")
pytestmark = pytest.mark.skipif(
    not DATA or not MODELS, reason="KOTYA_DATA and KOTYA_MODELS do not say where the corpora and models are"
)


def folder() -> Path:
    return Path(MODELS or "") / "marian-multi30k-de-en"


def lines(name: str) -> list[str]:
    return (Path(DATA or "") / "multi30k" / name).read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def imported() -> Marian:
    return read_marian(folder())


@pytest.mark.parametrize("part", ["val", "test_2016_flickr"])
@pytest.mark.parametrize("language", ["de", "en"])
def test_ids_are_theirs(imported: Marian, part: str, language: str) -> None:
    texts = lines(f"{part}.{language}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends a package
        tokenizer = MarianTokenizer.from_pretrained(folder())
    target = language == "en"
    theirs = (tokenizer(text_target=texts) if target else tokenizer(texts))["input_ids"]
    vocabulary = imported.target if target else imported.source
    assert [[*ids, vocabulary.end] for ids in vocabulary.encode_batch(texts)] == theirs
