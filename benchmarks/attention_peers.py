"""Other libraries' attention beside kotya's: layers and whole models of `transformers`, and PyTorch's FlexAttention.

Sizes are those of `attention.py`: batch 1, 8 heads × 64, float32, no dropout. A layer is handed hidden vectors and
makes query, key and value of them; the output matrix, which theirs have elsewhere, is left out of kotya's. Forward is
timed in eval mode; forward and backward in train mode, where the library's BigBird draws its random blocks. Models have
2 layers, 512 wide and 2,048 inside.

In one process with kotya's they have the allocator setting that kotya's command line makes for itself, from which they
gain a lot; `in_own_process` has them as they come.
"""

import functools
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

from kotya.attention.choices import form_of
from kotya.attention.multihead import MultiHeadAttention
from kotya.attention.packed import Packing
from kotya.inference.attention_forms import choice_of
from kotya.models.bert import BertConfig
from timing import fastest

HEADS, SIZE = 8, 64
WIDTH, VOCABULARY, LAYERS = HEADS * SIZE, 1000, 2
SIDE, BLOCK, RANDOM = 256, 64, 3
FORMS = {
    "longformer": f"{{kind: any, of: [{{kind: window, left: {SIDE}, right: {SIDE}}}, {{kind: global}}]}}",
    "bigbird": "bigbird",
    "block_sparse": f"{{kind: block_sparse, size: {BLOCK}, random: {RANDOM}}}",
    "window": "window",
    "linear": "linear",
}
"""Ours; the first three are the published models'."""

Read = Callable[[], Tensor]
SHARED: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 4 * WIDTH,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}

transformers.logging.set_verbosity_error()
warnings.filterwarnings("ignore", category=UserWarning)


Call = tuple[nn.Module, Read, list[Tensor]]
"""A module, a call of it, and what it is differentiated by beside its parameters."""


def layers(length: int, names: list[str] | None = None) -> dict[str, Call]:
    """By name a layer, and a call of it on hidden vectors of one text. `names`: of the library's."""
    torch.manual_seed(0)
    x = torch.randn(1, length, WIDTH, requires_grad=True)
    found: dict[str, Call] = {}
    longformer = LongformerSelfAttention(_longformer(length), 0)
    real = torch.zeros(1, length)
    first = torch.arange(length)[None] == 0
    found["transformers: Longformer"] = (
        longformer,
        lambda: longformer(
            x,
            attention_mask=torch.where(first, 10_000.0, real),
            is_index_masked=real < 0,
            is_index_global_attn=first,
            is_global_attn=True,
        )[0],
        [x],
    )
    bigbird = BigBirdBlockSparseAttention(_bigbird(length), seed=0)
    blocked, band, from_mask, to_mask = BigBirdModel.create_masks_for_block_sparse_attn(
        torch.ones(1, length), BLOCK
    )
    found["transformers: BigBird"] = (
        bigbird,
        lambda: bigbird(x, band, from_mask, to_mask, blocked, blocked)[0],
        [x],
    )
    found = {name: call for name, call in found.items() if names is None or name in names}
    packing = Packing.of([length])
    for name, text in FORMS.items():
        form = form_of(
            choice_of(text), layer=0, heads=HEADS, head_size=SIZE, max_length=length, kernel="auto"
        )
        layer = MultiHeadAttention(
            WIDTH,
            HEADS,
            dropout=0.0,
            bias=True,
            rotary=False,
            form=form,
            global_projections=name == "longformer",
        )
        layer.output = nn.Identity()
        found[f"kotya: {name}"] = (layer, functools.partial(_packed, layer, x, packing), [x])
    return found


def _packed(layer: MultiHeadAttention, x: Tensor, packing: Packing) -> Tensor:
    return layer.packed(x[0], packing)


def models(length: int, names: list[str] | None = None) -> dict[str, Call]:
    """By name a model of 2 layers, and a call of it on the ids of one text. `names`: of the library's."""
    torch.manual_seed(0)
    ids = torch.randint(5, VOCABULARY, (1, length))
    makers: dict[str, Callable[[], transformers.PreTrainedModel]] = {
        "transformers: BERT, full": lambda: transformers.BertModel(
            transformers.BertConfig(**SHARED, max_position_embeddings=length), add_pooling_layer=False
        ),
        "transformers: Longformer": lambda: transformers.LongformerModel(
            _longformer(length), add_pooling_layer=False
        ),
        "transformers: BigBird": lambda: BigBirdModel(_bigbird(length), add_pooling_layer=False),
    }
    found: dict[str, Call] = {}
    for name, make in makers.items():
        if names is None or name in names:
            model = make()
            first = {"global_attention_mask": (torch.arange(length) == 0).long()[None]}
            options = first if "Longformer" in name else {}
            found[name] = (model, functools.partial(_hidden, model, ids, options), [])
    packing = Packing.of([length])
    for name, text in FORMS.items():
        config = BertConfig.model_validate(
            {
                "size": WIDTH,
                "heads": HEADS,
                "layers": LAYERS,
                "feed_forward": 4 * WIDTH,
                "dropout": 0.0,
                "attention_dropout": 0.0,
                "max_length": length,
                "attention": choice_of(text),
                "global_projections": name == "longformer",
            }
        )
        encoder = config.build(VOCABULARY, pooler=False)
        found[f"kotya: {name}"] = (encoder, functools.partial(encoder, ids[0], packing), [])
    return found


KINDS = {"layers": layers, "models": models}


def times(call: Call, rounds: int) -> tuple[float, float]:
    """Seconds forward, and forward and backward."""
    module, read, _ = call
    module.eval()
    with torch.no_grad():
        forward = fastest(read, rounds)
    module.train()
    return forward, fastest(functools.partial(backward, call), rounds)


def backward(call: Call) -> None:
    module, read, inputs = call
    torch.autograd.grad(read().sum(), [*inputs, *module.parameters()], allow_unused=True)


def in_own_process(
    kind: str, length: int, rounds: int, names: list[str] | None = None
) -> dict[str, tuple[float, float]]:
    """The library's side alone, without anything of kotya's in its process."""
    job = json.dumps([kind, length, rounds, names])
    done = subprocess.run([sys.executable, __file__, job], capture_output=True, text=True, check=True)
    found: dict[str, tuple[float, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    kind, length, rounds, names = json.loads(sys.argv[1])
    calls = KINDS[kind](length, names)
    print(json.dumps({name: times(calls[name], rounds) for name in calls if name.startswith("transformers")}))


def _hidden(model: transformers.PreTrainedModel, ids: Tensor, options: dict[str, Any]) -> Tensor:
    hidden: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), **options).last_hidden_state
    return hidden


def _longformer(length: int) -> transformers.LongformerConfig:
    return transformers.LongformerConfig(
        **SHARED, max_position_embeddings=length + 2, pad_token_id=1, attention_window=[2 * SIDE] * LAYERS
    )


def _bigbird(length: int) -> transformers.BigBirdConfig:
    return transformers.BigBirdConfig(
        **SHARED, max_position_embeddings=length, block_size=BLOCK, num_random_blocks=RANDOM
    )


def flex(length: int, back: int) -> tuple[Read, float]:
    """PyTorch's FlexAttention, compiled, causal with a window of `back` keys; and the seconds of compiling and masking.

    On a CPU it has no backward.
    """
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, length, SIZE) for _ in range(3))

    def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query - key < back)

    began = time.perf_counter()
    mask = create_block_mask(seen, None, None, length, length, device="cpu")
    compiled: Any = torch.compile(flex_attention, dynamic=False)

    def read() -> Tensor:
        output: Tensor = compiled(q, k, v, block_mask=mask)
        return output

    with torch.no_grad():
        read()
    return read, time.perf_counter() - began


if __name__ == "__main__":
    main()
