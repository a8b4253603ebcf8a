"""One cell of finetuning.py by `transformers`: its Trainer as its examples use it, and the metrics of its best epoch.

A job comes as JSON on standard input; the metrics leave as JSON on the last line.
"""

import gzip
import json
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from kotya.metrics import correlations, entity_scores, label_scores, ranking_scores
from kotya.text.tags import entities

METRIC = {"relevance": "MAP", "tagging": "F1", "classification": "accuracy"}
Metrics = Callable[[Any, Any], dict[str, float]]


def main() -> None:
    job = json.load(sys.stdin)
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    train, dev, head, collate, metrics = PREPARE[job["task"]](job, tokenizer)
    kind = AutoModelForTokenClassification if job["task"] == "tagging" else AutoModelForSequenceClassification
    settings = job["training"]
    batches = -(-len(train) // settings["examples"])
    updates = settings["updates"] or settings["epochs"] * batches
    arguments = TrainingArguments(
        output_dir=job["run"],
        num_train_epochs=settings["epochs"] or 1,
        max_steps=settings["updates"] or -1,
        per_device_train_batch_size=settings["examples"],
        per_device_eval_batch_size=settings["examples"],
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        warmup_steps=max(1, round(settings["warmup"] * updates)),
        lr_scheduler_type=settings["schedule"],
        bf16=job["bf16"],
        seed=settings["seed"],
        use_cpu=job["cpu"],
        eval_strategy="steps" if settings["updates"] else "epoch",
        eval_steps=settings["updates"],
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(
        model_init=lambda: kind.from_pretrained(job["model"], **head),
        args=arguments,
        train_dataset=train,
        eval_dataset=dev,
        data_collator=collate,
        compute_metrics=lambda given: metrics(given.predictions, given.label_ids),
    )
    trainer.train()
    name = "Pearson" if job["numbers"] else METRIC[job["task"]]
    found = [record for record in trainer.state.log_history if f"eval_{name}" in record]
    best = max(found, key=lambda record: record[f"eval_{name}"])
    print(
        json.dumps(
            {key.removeprefix("eval_"): value for key, value in best.items() if key.startswith("eval_")}
        )
    )


def rows(path: str) -> list[list[str]]:
    data = Path(path).read_bytes()
    text = (gzip.decompress(data) if path.endswith(".gz") else data).decode()
    return [line.split("\t") for line in text.removesuffix("\n").split("\n")]


def every(job: dict[str, Any]) -> tuple[list[list[str]], list[list[str]]]:
    return [row for path in job["train"] for row in rows(path)], rows(job["dev"])


def classification(job, tokenizer):
    """Texts or pairs; numbers by the squared error."""
    train, dev = every(job)
    columns = job["columns"] or ["label", "text", "text"][: len(train[0])]
    where, texts = columns.index("label"), [i for i, name in enumerate(columns) if name == "text"]
    names = sorted({row[where] for row in train})

    def encoded(row):
        label = float(row[where]) if job["numbers"] else names.index(row[where])
        return {**tokenizer(*(row[i] for i in texts), truncation=True), "labels": label}

    if job["numbers"]:
        head: dict[str, Any] = {"num_labels": 1, "problem_type": "regression"}
        metrics: Metrics = lambda found, gold: correlations(found[:, 0].tolist(), gold.ravel().tolist())  # noqa: E731
    else:
        head = {"num_labels": len(names)}
        metrics = lambda found, gold: label_scores(found.argmax(-1).tolist(), gold.tolist())  # noqa: E731
    sides = [[encoded(row) for row in some] for some in (train, dev)]
    return *sides, head, DataCollatorWithPadding(tokenizer), metrics


def relevance(job, tokenizer):
    """Each document by itself, by the cross-entropy of one output."""
    train, dev = every(job)

    def encoded(row):
        return {**tokenizer(row[2], row[3], truncation=True), "labels": [float(float(row[4]) > 0)]}

    def metrics(found, gold):
        judged: tuple[dict, dict] = ({}, {})
        for row, score in zip(dev, found[:, 0].tolist(), strict=True):
            judged[0].setdefault(row[0], {})[row[1]] = score
            judged[1].setdefault(row[0], {})[row[1]] = int(row[4])
        return ranking_scores(*judged)

    head = {"num_labels": 1, "problem_type": "multi_label_classification"}
    sides = [[encoded(row) for row in some] for some in (train, dev)]
    return *sides, head, DataCollatorWithPadding(tokenizer), metrics


def tagging(job, tokenizer):
    """A word's tag on its first piece, as in its example run_ner."""

    def sentences(some):
        blocks = groupby(some, key=lambda row: bool(row[0].strip()))
        return [list(block) for real, block in blocks if real]

    train, dev = ([block for block in sentences(some) if block[0][0] != "-DOCSTART-"] for some in every(job))
    names = sorted({row[-1] for block in train for row in block})

    def encoded(block):
        found = tokenizer([row[0] for row in block], is_split_into_words=True, truncation=True)
        words, labels = found.word_ids(), []
        for place, word in enumerate(words):
            first = word is not None and (place == 0 or words[place - 1] != word)
            labels.append(names.index(block[word][-1]) if first else -100)
        return {**found, "labels": labels}

    def metrics(found, gold):
        tagged, right = [], []
        for logits, labels, block in zip(found, gold, dev, strict=True):
            tags = [names[i] for i in logits.argmax(-1)[np.asarray(labels) != -100]]
            tagged.append(entities(tags + ["O"] * (len(block) - len(tags))))
            right.append(entities([row[-1] for row in block]))
        return entity_scores(tagged, right)

    sides = [[encoded(block) for block in some] for some in (train, dev)]
    return *sides, {"num_labels": len(names)}, DataCollatorForTokenClassification(tokenizer), metrics


PREPARE = {"classification": classification, "relevance": relevance, "tagging": tagging}

if __name__ == "__main__":
    main()
