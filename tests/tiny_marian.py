"""A tiny MarianMT folder as `transformers` writes one: random weights, sentencepiece models trained on a few lines."""

import io
import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from transformers import GenerationConfig, MarianConfig, MarianMTModel

SYLLABLES = [first + second for first in "бвгдклмнbdfgklmn" for second in "аеоиaeoi"]


def sentences(count: int, seed: int) -> list[str]:
    """Lines of made-up words: some often, some rare, so that a segmentation has something to learn."""
    source = random.Random(seed)
    words = ["".join(source.choices(SYLLABLES, k=source.randint(1, 4))) for _ in range(200)]
    return [
        " ".join(source.choices(words, k=source.randint(2, 12))) + source.choice(".!?,") for _ in range(count)
    ]


def train_sentencepiece(path: Path, seed: int, **options: Any) -> list[str]:
    """Write a model, and give its pieces."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(600, seed)),
        model_writer=written,
        vocab_size=options.pop("vocab_size", 180),
        minloglevel=2,
        num_threads=1,
        **options,
    )
    path.write_bytes(written.getvalue())
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(number) for number in range(model.get_piece_size())]


def write_marian(
    folder: Path, *, algorithm: str = "unigram", separate: bool = False, codes: bool = False, **changes: Any
) -> Path:
    """A folder in every part like those of Hugging Face, of random weights."""
    folder.mkdir(parents=True)
    source = train_sentencepiece(folder / "source.spm", 1, model_type=algorithm)
    target = train_sentencepiece(folder / "target.spm", 2, model_type=algorithm)
    ids = write_ids(folder / "vocab.json", source if separate else [*source, *target], codes)
    other = write_ids(folder / "target_vocab.json", target, False) if separate else ids
    words = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>", "separate_vocabs": separate}
    settings = {"source_lang": "ru", "target_lang": "en", "tokenizer_class": "MarianTokenizer", **words}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(1)
    layers: dict[str, Any] = {"encoder_layers": 2, "decoder_layers": 2}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"d_model": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "init_std": 0.4}
    roles = {"eos_token_id": 0, "pad_token_id": len(other) - 1, "decoder_start_token_id": len(other) - 1}
    config = MarianConfig(
        **{"vocab_size": len(ids), "decoder_vocab_size": len(other), "activation_function": "relu"}
        | {"share_encoder_decoder_embeddings": not separate, "scale_embedding": True}
        | {"forced_eos_token_id": None}
        | layers
        | heads
        | sizes
        | roles
        | changes
    )
    model = MarianMTModel(config).eval()
    torch.nn.init.normal_(model.final_logits_bias)
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "layer_norm.weight")):
            torch.nn.init.normal_(parameter, mean=1.0 if "weight" in name else 0.0, std=0.3)
    banned = [[roles["pad_token_id"]]]
    model.generation_config = GenerationConfig(bad_words_ids=banned, num_beams=4, max_length=64, **roles)
    model.save_pretrained(folder)
    return folder


def write_ids(path: Path, pieces: list[str], codes: bool) -> dict[str, int]:
    """Ids in an order of their own, the end first and the padding last, as in MarianMT folders."""
    plain = sorted({*pieces} - {"</s>", "<unk>", "<s>"})
    random.Random(3).shuffle(plain)
    extra = [">>eng<<", ">>fra<<"] if codes else []
    ids = {piece: number for number, piece in enumerate(["</s>", "<unk>", *plain, *extra, "<pad>"])}
    path.write_text(json.dumps(ids))
    return ids


ODD = [
    "",
    " ",
    "   вокама  ба ",
    "\tba\u00a0vu\u3000ki\r\n",
    "▁ba▁ ▁",
    "ＡＢＣ ①②③ ½ ﬁ № ™ …",
    "e\u0301 и\u0306 ё é",
    "№\u0301 ﬁ\u0301 \u00a0\u0301x",
    "한국어 \u1112\u1161\u11ab 日本語",
    unicodedata.normalize("NFD", "Việt Nam, ngữ pháp; 대한민국; ὕδωρ; ἐν ἀρχῇ; Ёлка; ọ́"),
    "👩🏽\u200d🦰 🇩🇪 \u200b\ufeff",
    "</s> <pad> <unk> <s>",
    "\x00\x07\ud7ff",
    "ба" * 3000,
]
"""Texts that trip a tokenizer."""
