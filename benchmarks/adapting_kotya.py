"""kotya's side of adapting.py: its own loop with a LoRA, and its predictor with the LoRA in the weights, as in use.

python benchmarks/adapting_kotya.py --work short
"""

import tempfile
from pathlib import Path

from kotya.cli.allocator import tune_allocator
from kotya.cli.threads import spin_briefly

tune_allocator()
spin_briefly()

import torch  # noqa: E402

import bert_texts as shared  # noqa: E402
from bert_kotya import predict, prepare  # noqa: E402
from kotya.adapt.attach import attach, own, settle  # noqa: E402
from kotya.adapt.lora import LoRAConfig  # noqa: E402
from kotya.interop.huggingface import read  # noqa: E402
from kotya.models.heads import SequenceModel  # noqa: E402
from kotya.tasks.settings import Known  # noqa: E402
from kotya.tasks.task import Evaluation  # noqa: E402
from kotya.training.loop import Loop  # noqa: E402
from kotya_loop import Records  # noqa: E402

LORA = LoRAConfig(kind="lora", rank=8, alpha=16, targets=("attention.query", "attention.value"))


def main() -> None:
    chosen = shared.arguments(__doc__)
    torch.manual_seed(1)
    found = read(str(shared.model_folder()))
    encoder, vocabulary = found.model.get_submodule("encoder"), found.vocabularies[0]

    def ends(texts: list[str]) -> list[list[int]]:
        return [[stop for _, stop in spans] for _, spans in vocabulary.encode_spans(texts)]

    model = SequenceModel(encoder, 2)
    fresh = ["head.weight", "head.bias"]
    if chosen.adapter != "none":
        attach(model, LORA, fresh=fresh)
    if chosen.work == "predict":
        model.to(torch.bfloat16 if chosen.precision == "bf16" else torch.float32)
        if chosen.adapter == "merged":
            settle(model)
        predict(chosen, model, vocabulary, found.config.model, ends)
        return
    with tempfile.TemporaryDirectory() as folder:
        task, config = prepare(chosen, Path(folder), Known(found.config, found.vocabularies), ends)
        task.evaluate = lambda model, autocast: Evaluation({task.metric: 0.0}, [])
        reporter = Records()
        (Path(folder) / "run").mkdir()
        learned = own(model, fresh=fresh)
        Loop(model, learned, task, config, Path(folder) / "run", torch.device("cpu"), reporter).train()
    timed = reporter.records[chosen.warmup :]
    seconds = sum(one["seconds_per_update"] for one in timed)
    speed = shared.EXAMPLES * len(timed) / seconds
    trained = sum(parameter.numel() for parameter in learned.values())
    shared.answer("kotya", "examples", speed, loss=timed[-1]["loss"], trained=trained)


if __name__ == "__main__":
    main()
