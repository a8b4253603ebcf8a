"""A padded `transformers` loop, as its users write it: random batches, the longest text of each says how long it is.

    .benchmarks/venv/bin/python benchmarks/bert_transformers.py --work short --precision bf16

AdamW in its fused form, gradients clipped at 1, scaled-dot-product attention: what its Trainer does by default.
Pretraining is that of its example `run_mlm`: all texts in a row, cut in blocks of 128, so that nothing is padded, and
its collator masks 15 %.
"""

import time

import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
)

import bert_texts as shared


def main() -> None:
    chosen = shared.arguments(__doc__)
    folder = shared.model_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 512
    torch.manual_seed(1)
    if chosen.work == "predict":
        dtype = torch.bfloat16 if chosen.precision == "bf16" else torch.float32
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)
        predict(chosen, model, tokenizer)
        return
    kind = AutoModelForMaskedLM if chosen.work == "pretrain" else AutoModelForSequenceClassification
    model = kind.from_pretrained(folder).train()
    batches = masked(tokenizer, chosen) if chosen.work == "pretrain" else labelled(tokenizer, chosen)
    optimizer = torch.optim.AdamW(model.parameters(), lr=shared.RATE, weight_decay=0.01, fused=True)
    done, start = 0, 0.0
    for number, (batch, count) in enumerate(batches):
        if number == chosen.warmup:
            start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=chosen.precision == "bf16"):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        last = loss.item()
        done += count if number >= chosen.warmup else 0
    unit = "tokens" if chosen.work == "pretrain" else "examples"
    speed = done / (time.perf_counter() - start)
    shared.answer("transformers", unit, speed, loss=last, precision=chosen.precision)


def labelled(tokenizer, chosen):
    """Batches in the order of the texts, which is random."""
    count = shared.EXAMPLES * (chosen.warmup + chosen.steps)
    texts, labels = shared.texts(chosen.work, count, ends(tokenizer))
    rows = [{**tokenizer(text), "labels": label} for text, label in zip(texts, labels, strict=True)]
    collate = DataCollatorWithPadding(tokenizer)
    return [
        (collate(rows[at : at + shared.EXAMPLES]), shared.EXAMPLES) for at in range(0, count, shared.EXAMPLES)
    ]


def masked(tokenizer, chosen):
    """run_mlm's: one long row of texts with their special pieces, cut in blocks; masked while the clock runs."""
    row = []
    wanted = shared.EXAMPLES * shared.LENGTH * (chosen.warmup + chosen.steps)
    for line in shared.lines("wikitext-2/train.txt.gz"):
        if len(row) >= wanted:
            break
        if line.strip():
            row += tokenizer(line).input_ids
    blocks = [row[at : at + shared.LENGTH] for at in range(0, wanted, shared.LENGTH)]
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    for at in range(0, len(blocks), shared.EXAMPLES):
        some = blocks[at : at + shared.EXAMPLES]
        yield collate([{"input_ids": one} for one in some]), shared.EXAMPLES * shared.LENGTH


def ends(tokenizer):
    """Behind which character each piece of a text ends."""

    def found(texts):
        encoded = tokenizer(texts, return_offsets_mapping=True, add_special_tokens=False)
        return [[stop for _, stop in one] for one in encoded["offset_mapping"]]

    return found


def predict(chosen, model, tokenizer):
    """From texts to probabilities, 32 at a time as they come."""
    model.eval()
    texts, _ = shared.texts("predict", shared.EXAMPLES * (chosen.warmup + 2 * chosen.steps), ends(tokenizer))
    start = 0.0
    with torch.inference_mode():
        for number, at in enumerate(range(0, len(texts), shared.EXAMPLES)):
            if number == chosen.warmup:
                start = time.perf_counter()
            batch = tokenizer(texts[at : at + shared.EXAMPLES], padding=True, return_tensors="pt")
            model(**batch).logits.softmax(-1).tolist()
    seconds = time.perf_counter() - start
    timed = len(texts) - shared.EXAMPLES * chosen.warmup
    shared.answer("transformers", "examples", timed / seconds, precision=chosen.precision)


if __name__ == "__main__":
    main()
