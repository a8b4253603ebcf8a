"""What the sides of the translation benchmark share: the 1,000 lines, the clock, and the answer, one line of JSON.

Loading is not counted; cutting into pieces and putting together again is. Every side translates 64 lines once before
the clock starts.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import corpus
import rnns

MODELS = ("marian", *rnns.NAMES)


def cap(model: str) -> int:
    """Pieces that a side may write. The LSTMs learned for minutes, so that some of their lines would never end."""
    return 40 if model in rnns.NAMES else 100


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument(
        "--type", default="float32", help="of the weights: float32 or int8, where there is a choice"
    )
    return parser.parse_args()


def model_folder() -> Path:
    """The Hugging Face folder that all sides use for `marian`."""
    folder = Path(os.environ.get("KOTYA_MODELS", corpus.FOLDER.parent / "models")) / "marian-multi30k-de-en"
    if not folder.is_dir():
        sys.exit(f"no {folder}: set KOTYA_MODELS to the folder that holds marian-multi30k-de-en")
    return folder


def lines(language: str) -> list[str]:
    path = corpus.data_root() / "multi30k" / f"test_2016_flickr.{language}"
    return path.read_text(encoding="utf-8").splitlines()


def measure(name: str, translate: Callable[[list[str]], list[str]], **about: object) -> None:
    """Time `translate` on the whole test set and print the figures and the translations."""
    source = lines("de")
    translate(source[:64])
    start = time.perf_counter()
    outputs = translate(source)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures = {"side": name, "sentences_per_second": len(source) / seconds, "peak_gib": peak}
    print(json.dumps(figures | about | {"outputs": outputs}), flush=True)
