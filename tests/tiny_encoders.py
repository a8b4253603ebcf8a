"""Small encoders of Hugging Face's with random weights, one a family, and batches for them."""

from typing import Any

import torch
import transformers
from torch import Tensor, nn

VOCABULARY, PAD = (
    60,
    {"bert": 0, "distilbert": 0, "roberta": 1, "modernbert": 3, "longformer": 1, "big_bird": 0},
)
LONGEST = 90

SETTINGS: dict[str, dict[str, Any]] = {
    "bert": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": LONGEST,
    },
    "distilbert": {
        "dim": 32,
        "n_layers": 3,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": LONGEST,
    },
    "modernbert": {
        "hidden_size": 32,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "local_attention": 8,
        "max_position_embeddings": LONGEST,
        "cls_token_id": 1,
        "sep_token_id": 2,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
}
SETTINGS["roberta"] = SETTINGS["bert"] | {"type_vocab_size": 1, "max_position_embeddings": LONGEST + 2}
SETTINGS["longformer"] = SETTINGS["roberta"] | {"attention_window": [8, 4, 8]}
# block-sparse from 29 tokens on; theirs fills the last block up, and must have a position for all of it
SETTINGS["big_bird"] = SETTINGS["bert"] | {"block_size": 4, "num_random_blocks": 1, "sep_token_id": 2}
SETTINGS["big_bird"]["max_position_embeddings"] = 96
CONFIGS = {
    "bert": transformers.BertConfig,
    "distilbert": transformers.DistilBertConfig,
    "roberta": transformers.RobertaConfig,
    "longformer": transformers.LongformerConfig,
    "big_bird": transformers.BigBirdConfig,
    "modernbert": transformers.ModernBertConfig,
}
STEMS = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "roberta": "Roberta",
    "modernbert": "ModernBert",
    "longformer": "Longformer",
    "big_bird": "BigBird",
}


def make(family: str, ending: str, **settings: Any) -> transformers.PreTrainedModel:
    """A model whose outputs are not all alike; `ending` is that of the class: `ForMaskedLM` and so on."""
    torch.manual_seed(1)
    usual = {"vocab_size": VOCABULARY, "pad_token_id": PAD[family]}
    config = CONFIGS[family](**usual | SETTINGS[family] | settings)
    model: transformers.PreTrainedModel = getattr(transformers, STEMS[family] + ending)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3 if parameter.ndim == 2 else 0.5)
    return model


def batch(family: str, lengths: tuple[int, ...], *, pairs: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Ids padded on the right, the mask of the real ones, and segments: half of a pair is its second text."""
    torch.manual_seed(2)
    longest = max(lengths)
    real = torch.arange(longest) < torch.tensor(lengths)[:, None]
    ids = torch.randint(4, VOCABULARY, (len(lengths), longest)).masked_fill(~real, PAD[family])
    second = torch.arange(longest) >= torch.tensor(lengths)[:, None] // 2
    return ids, real.long(), (second & real).long() * pairs


def outputs(model: transformers.PreTrainedModel, ids: Tensor, real: Tensor, segments: Tensor) -> Any:
    options = {"token_type_ids": segments} if model.config.model_type in ("bert", "big_bird") else {}
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=real, **options)
