"""JoeyNMT's own `train` command on the same data and sizes, its own batches and log: real target tokens a second.

    .benchmarks/venv/bin/python benchmarks/joeynmt_loop.py --steps 20

It counts as it does when a person trains with it: batches of 4,096 tokens in random order, not by length, so that
about half of its positions are padding.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys

import yaml

import architectures
import corpus
from timing import answer

FOLDER = corpus.FOLDER / "joeynmt"
SPECIALS = ["<unk>", "<pad>", "<s>", "</s>"]


def write_data() -> None:
    """The shared ids as space-separated words, for JoeyNMT's whitespace tokenizer."""
    pairs = corpus.sentences()
    for language, column in (("de", 0), ("en", 1)):
        lines = [" ".join(f"p{number}" for number in pair[column]) for pair in pairs]
        (FOLDER / f"train.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (FOLDER / f"dev.{language}").write_text("\n".join(lines[:20]) + "\n", encoding="utf-8")
    words = SPECIALS + [f"p{number}" for number in range(4, corpus.SIZE)]
    (FOLDER / "vocabulary.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


def config(model: str, steps: int) -> dict:
    side = {"level": "word", "voc_file": str(FOLDER / "vocabulary.txt"), "max_length": 200}
    return {
        "name": "benchmark",
        "joeynmt_version": "2.3.0",
        "model_dir": str(FOLDER / "model"),
        "use_cuda": False,
        "fp16": False,
        "random_seed": 1,
        "data": {
            "train": str(FOLDER / "train"),
            "dev": str(FOLDER / "dev"),
            "dataset_type": "plain",
            "src": {"lang": "de", **side},
            "trg": {"lang": "en", **side},
            "special_symbols": {
                **dict(zip(["unk_token", "pad_token", "bos_token", "eos_token"], SPECIALS, strict=True)),
                **dict(zip(["unk_id", "pad_id", "bos_id", "eos_id"], range(4), strict=True)),
            },
        },
        "testing": {"beam_size": 1, "eval_metrics": ["bleu"], "batch_size": 20, "batch_type": "sentence"},
        "training": {
            "optimizer": "adam",
            "adam_betas": [0.9, 0.98],
            "learning_rate": 0.0005,
            "scheduling": "warmupinversesquareroot",
            "learning_rate_warmup": 1000,
            "learning_rate_min": 1e-9,
            "loss": "crossentropy",
            "label_smoothing": 0.1,
            "normalization": "tokens",
            "batch_size": corpus.TOKENS,
            "batch_type": "token",
            "early_stopping_metric": "loss",
            "epochs": 1,
            "updates": steps,
            "validation_freq": 10_000,
            "logging_freq": 4,
            "shuffle": True,
            "overwrite": True,
        },
        "model": architectures.joeynmt_model(model),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--model", choices=architectures.NAMES, default="transformer")
    arguments = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    write_data()
    path = FOLDER / "config.yaml"
    path.write_text(yaml.safe_dump(config(arguments.model, arguments.steps)), encoding="utf-8")
    command = [sys.executable, "-m", "joeynmt", "train", path, "--skip-test"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    speeds = [float(speed) for speed in re.findall(r"Tokens per Sec:\s*([\d.]+)", run.stdout + run.stderr)]
    if len(speeds) < 2:
        sys.exit(f"JoeyNMT did not train: {(run.stdout + run.stderr)[-2_000:]}")
    answer("JoeyNMT", statistics.median(speeds[1:]), precision="float32", steps=arguments.steps, log=speeds)


if __name__ == "__main__":
    main()
