"""kotya's own loop and predictor on the same texts, in a process set up as its command line sets up its own.

python benchmarks/bert_kotya.py --work short --precision bf16
"""

import tempfile
import time
from pathlib import Path

from kotya.cli.allocator import tune_allocator
from kotya.cli.threads import spin_briefly

tune_allocator()
spin_briefly()

import torch  # noqa: E402

import bert_texts as shared  # noqa: E402
from kotya import recipe as recipes  # noqa: E402
from kotya.inference.classifier import Classifier  # noqa: E402
from kotya.interop.huggingface import read  # noqa: E402
from kotya.models.bert import MaskedLM  # noqa: E402
from kotya.models.heads import SequenceModel  # noqa: E402
from kotya.tasks.classification import ClassificationFolder  # noqa: E402
from kotya.tasks.settings import Known  # noqa: E402
from kotya.tasks.task import Evaluation  # noqa: E402
from kotya.training.loop import Loop  # noqa: E402
from kotya_loop import Records  # noqa: E402


def main() -> None:
    chosen = shared.arguments(__doc__)
    torch.manual_seed(1)
    found = read(str(shared.model_folder()))
    encoder, vocabulary = found.model.get_submodule("encoder"), found.vocabularies[0]

    def ends(texts: list[str]) -> list[list[int]]:
        return [[stop for _, stop in spans] for _, spans in vocabulary.encode_spans(texts)]

    if chosen.work == "predict":
        predict(chosen, SequenceModel(encoder, 2), vocabulary, found.config.model, ends)
        return
    with tempfile.TemporaryDirectory() as folder:
        task, config = prepare(chosen, Path(folder), Known(found.config, found.vocabularies), ends)
        if chosen.work == "pretrain":
            model: torch.nn.Module = MaskedLM(encoder, next_sentence=False)
        else:
            model = SequenceModel(encoder, 2)
        task.evaluate = lambda model, autocast: Evaluation({task.metric: 0.0}, [])
        reporter = Records()
        (Path(folder) / "run").mkdir()
        learned = dict(model.named_parameters())
        Loop(model, learned, task, config, Path(folder) / "run", torch.device("cpu"), reporter).train()
    timed = reporter.records[chosen.warmup :]
    seconds = sum(one["seconds_per_update"] for one in timed)
    done = sum(one["tokens"] for one in timed) if chosen.work == "pretrain" else shared.EXAMPLES * len(timed)
    unit = "tokens" if chosen.work == "pretrain" else "examples"
    shared.answer("kotya", unit, done / seconds, loss=timed[-1]["loss"], precision=chosen.precision)


def prepare(chosen, folder: Path, known: Known, ends):
    """The task on the shared texts, and the settings of its loop."""
    training = {
        "updates": chosen.warmup + chosen.steps,
        "learning_rate": shared.RATE,
        "precision": chosen.precision,
        "evaluate_every": 10_000,
        "weight_decay": 0.01,
    }
    if chosen.work == "pretrain":
        content = {"task": "masked_lm", "training": {**training, "nsp": 0.0, "length": shared.LENGTH}}
        rows = shared.lines("wikitext-2/train.txt.gz")[:6000]
    else:
        count = shared.EXAMPLES * (chosen.warmup + chosen.steps)
        texts, labels = shared.texts(chosen.work, count, ends)
        rows = [f"{label}\t{text}" for label, text in zip(labels, texts, strict=True)]
        content = {"task": "classification", "training": {**training, "examples": shared.EXAMPLES}}
    (folder / "train").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "dev").write_text("\n".join(rows[:200]) + "\n", encoding="utf-8")
    content |= {"base": "minilm", "data": {"root": str(folder), "train": "train", "dev": "dev"}}
    recipe = recipes.parse(content, "the benchmark")
    return recipe.prepare(known, folder / "cache", lambda text: None, progress=False).task, recipe.training


def predict(chosen, model, vocabulary, config, ends) -> None:
    """From texts to probabilities."""
    dtype = torch.bfloat16 if chosen.precision == "bf16" else torch.float32
    model = model.to(dtype).eval().requires_grad_(False)
    folder = ClassificationFolder(model=config, labels=["0", "1"], texts=1)
    classifier = Classifier(model, vocabulary, folder)
    count = shared.EXAMPLES * (chosen.warmup + 2 * chosen.steps)
    texts, _ = shared.texts("predict", count, ends)
    first = shared.EXAMPLES * chosen.warmup
    list(classifier.predict(texts[:first]))
    start = time.perf_counter()
    list(classifier.predict(texts[first:]))
    seconds = time.perf_counter() - start
    shared.answer("kotya", "examples", (count - first) / seconds, precision=chosen.precision)


if __name__ == "__main__":
    main()
