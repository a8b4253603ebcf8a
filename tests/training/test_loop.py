"""The loop: gradients add up, schedules, averaging, early stopping, and a loss that is no number."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kotya import folder
from kotya.errors import Fault
from kotya.tasks.parallel import prepare
from kotya.tasks.settings import TrainingConfig
from kotya.tasks.translation import Translation
from kotya.text.cache import cache_folder
from kotya.training.averaging import average
from kotya.training.loop import Loop
from kotya.training.optimizer import build_optimizer, learning_rate
from kotya.training.progress import Silent
from kotya.training.run import train
from training_corpus import small_recipe


def prepared(corpus: Path, *, tokens: int = 256, r_drop: float = 0.0) -> Translation:
    recipe = small_recipe(corpus)
    vocabularies, train_set, dev = prepare(
        recipe.data, recipe.vocabulary, cache_folder(), recipe.data_root(), vocabularies=None, progress=False
    )
    return Translation(
        vocabularies, train_set, dev, tokens=tokens, seed=1, smoothing=0.1, r_drop=r_drop, dropout=0.0
    )


@pytest.mark.parametrize("r_drop", [0.0, 5.0])
def test_micro_batches_add_up_to_the_batch(corpus: Path, r_drop: float) -> None:
    """A sum over parts, each divided by the weight of all, has the gradient of the whole."""
    recipe, task = small_recipe(corpus), prepared(corpus, r_drop=r_drop)
    size = len(task.source)
    torch.manual_seed(1)
    model = recipe.model.model_copy(
        update={"dropout": 0.0, "attention_dropout": 0.0, "feed_forward_dropout": 0.0}
    )
    built = model.build(size, size)
    indices = task.round(0)[0]
    halves = [indices[: len(indices) // 3], indices[len(indices) // 3 :]]
    weight = sum(task.weights(task.batch(half, 0))["cross_entropy"] for half in halves)
    whole = task.losses(built, task.batch(indices, 0))
    sum(term / weight for name, term in whole.items() if name != "nll").backward()
    expected = {name: p.grad.clone() for name, p in built.named_parameters()}
    built.zero_grad()
    for half in halves:
        terms = task.losses(built, task.batch(half, 0))
        sum(term / weight for name, term in terms.items() if name != "nll").backward()
    for name, parameter in built.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)


def test_r_drop_is_the_formula(corpus: Path) -> None:
    """½(CE₁ + CE₂) + α/2 · ½(KL(p₁‖p₂) + KL(p₂‖p₁)), written out in float64 from the same two passes."""
    recipe, task = small_recipe(corpus), prepared(corpus, r_drop=5.0)
    torch.manual_seed(1)
    model = recipe.model.build(len(task.source), len(task.source))
    batch = task.batch(task.round(0)[0], 0)
    torch.manual_seed(2)
    terms = task.losses(model, batch)
    torch.manual_seed(2)
    double = [torch.cat([x, x]) for x in (batch.source, batch.lengths, batch.inputs)]
    logits = model.decoder.output(model(*double)).double().flatten(0, 1).chunk(2)
    p, q = (one[batch.real].log_softmax(-1) for one in logits)
    kl = ((p.exp() * (p - q)).sum() + (q.exp() * (q - p)).sum()) / 2
    likelihood = -(p + q).gather(1, batch.outputs[:, None]).sum() / 2
    assert kl.item() > 1e-3
    torch.testing.assert_close(terms["r_drop"].double(), 5.0 / 2 * kl, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(terms["nll"].double(), likelihood, rtol=1e-5, atol=1e-3)


def test_schedules() -> None:
    def rates(**options: object) -> list[float]:
        config = TrainingConfig.model_validate({"updates": 100, "learning_rate": 2.0, "warmup": 10} | options)
        return [learning_rate(config, update, 100) for update in range(1, 101)]

    noam = rates()
    assert noam[4] == pytest.approx(1.0)
    assert noam[9] == pytest.approx(2.0)
    assert noam[39] == pytest.approx(2.0 * math.sqrt(10 / 40))
    for schedule in ("cosine", "linear"):
        falling = rates(schedule=schedule)
        assert falling[9] == pytest.approx(2.0)
        assert falling[54] == pytest.approx(1.0)
        assert falling[99] == pytest.approx(0.0, abs=1e-12)
        assert all(a > b for a, b in pairwise(falling[10:]))


def test_norms_and_biases_do_not_decay(corpus: Path) -> None:
    model = small_recipe(corpus).model.build(9, 9)
    optimizer = build_optimizer(model, TrainingConfig(updates=1, weight_decay=0.1))
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in decayed) == (parameter.ndim > 1), name


def test_a_run_leaves_what_the_design_says(corpus: Path, tmp_path: Path) -> None:
    outcome = train(small_recipe(corpus), tmp_path / "run", reporter=Silent())
    assert outcome.finished
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "recipe.yaml",
        "metrics.jsonl",
        "checkpoints",
    }
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in log if "dev" in line] == [4, 8, 12]
    assert [line["update"] for line in log if "dev" not in line] == list(range(1, 13))
    loaded = folder.load(tmp_path / "run")
    assert loaded.model.encoder.embedding.weight is loaded.model.decoder.output_weight
    assert not list((tmp_path / "run").rglob("*.partial"))


def test_the_average_is_the_mean(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(small_recipe(corpus, average=3), run, reporter=Silent())
    chosen = average([run], tmp_path / "mean", last=3)
    assert len(chosen) == 3
    parts = [load_file(path / "model.safetensors") for path in chosen]
    for name, tensor in load_file(tmp_path / "mean" / "model.safetensors").items():
        expected = torch.stack([part[name].double() for part in parts]).mean(0)
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-7)
    assert folder.load(tmp_path / "mean").config.task == "translation"


def test_early_stopping(corpus: Path, tmp_path: Path) -> None:
    """With a learning rate that changes next to nothing, no evaluation is better than the first."""
    recipe = small_recipe(corpus, learning_rate=1e-12, patience=2, updates=100, evaluate_every=2)
    assert train(recipe, tmp_path / "run", reporter=Silent()).update == 6


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_last_checkpoint(
    corpus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    recipe = small_recipe(corpus)
    train(recipe, run, reporter=Silent())
    task = prepared(corpus)
    model = recipe.model.build(len(task.source), len(task.source))
    loop = Loop(
        model,
        dict(model.named_parameters()),
        task,
        TrainingConfig(updates=99),
        run,
        torch.device("cpu"),
        Silent(),
    )
    loop.resume()
    before = (run / "model.safetensors").read_bytes()
    with torch.no_grad():
        loop.model.decoder.layers[0].feed_forward.inner.weight[0, 0] = float("inf")
    with pytest.raises(Fault, match=r"update 13 is not a number; the last good checkpoint is .*0000012"):
        loop.train()
    assert (run / "model.safetensors").read_bytes() == before
