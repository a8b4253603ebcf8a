"""Small folders as `transformers` writes them: an encoder with random weights and a tokenizer of its family."""

import json
import random
from pathlib import Path
from typing import Any

import tokenizers
import transformers
from tokenizers import decoders, normalizers, pre_tokenizers, processors, trainers

from tiny_encoders import make

WORDS = ["walk", "walking", "walked", "talk", "unbelievable", "Jürgen", "1,000", "bank", "river", "the", "of"]


def texts(count: int, seed: int = 3) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) + "." for _ in range(count)]


def wordpiece(size: int) -> tokenizers.Tokenizer:
    """BERT's."""
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    made.train_from_iterator(texts(300), trainer)
    pair = "[CLS] $A [SEP] $B:1 [SEP]:1"
    places = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=pair, special_tokens=places
    )
    return made


def byte_level(size: int, special: list[str], behind: list[str], pair: str) -> tokenizers.Tokenizer:
    """RoBERTa's, with its special pieces first; or ModernBERT's, with them behind the pieces of the model."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(texts(300), trainer)
    made.add_special_tokens([tokenizers.AddedToken(name, lstrip="mask" in name.lower()) for name in behind])
    first, last = pair.split()[0], pair.split()[-1].partition(":")[0]
    places = [(name, made.token_to_id(name)) for name in (first, last)]
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=pair, special_tokens=places
    )
    return made


def unigram(size: int) -> tokenizers.Tokenizer:
    """BigBird's: sentencepiece's way to cut, and BERT's special pieces."""
    special: list[Any] = ["<pad>", "</s>", "<s>", "[CLS]", "[SEP]", "<unk>"]
    special.append(tokenizers.AddedToken("[MASK]", lstrip=True))
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.normalizer = normalizers.Replace(tokenizers.Regex(" {2,}"), " ")
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(texts(300), trainer)
    places = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=places
    )
    return made


BERT_SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
NAMES = {
    "roberta": {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"},
    "bert": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
}


NAMES["longformer"] = NAMES["roberta"]
NAMES["big_bird"] = NAMES["bert"] | {"pad": "<pad>", "unk": "<unk>"}


def tokenizer(family: str, size: int = 330) -> transformers.PreTrainedTokenizerFast:
    """A tokenizer of the family with at most so many pieces."""
    if family in ("roberta", "longformer"):
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        made = byte_level(size - 1, special, ["<mask>"], "<s> $A </s> </s> $B </s>")
    elif family == "big_bird":
        made = unigram(size)
    elif family == "modernbert":
        made = byte_level(size - 8, ["<|endoftext|>"], BERT_SPECIAL, "[CLS] $A [SEP] $B [SEP]")
    else:
        made = wordpiece(size)
    names = {f"{role}_token": name for role, name in NAMES.get(family, NAMES["bert"]).items()}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names)


def write(family: str, ending: str, folder: Path, **settings: Any) -> transformers.PreTrainedTokenizerFast:
    """A folder of that class; its matrix has a few rows more than there are pieces, as many published ones have."""
    made = tokenizer(family)
    ids = {f"{role}_token_id": getattr(made, f"{role}_token_id") for role in ("pad", "cls", "sep")}
    ends = {"bos_token_id": made.cls_token_id, "eos_token_id": made.sep_token_id}
    make(family, ending, vocab_size=len(made) + 5, **ids, **ends, **settings).save_pretrained(folder)
    made.save_pretrained(folder)
    return made


def change(path: Path, **values: Any) -> None:
    """Other values in a JSON file; None takes a key away."""
    content = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
