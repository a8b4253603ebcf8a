"""PEFT's side of adapting.py: the padded loop of bert_transformers.py on a model with a LoRA of PEFT's.

.benchmarks/venv/bin/python benchmarks/adapting_peft.py --work short
"""

import time

import peft
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import bert_texts as shared
from bert_transformers import labelled, predict

LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["query", "value"], "task_type": "SEQ_CLS"}


def main() -> None:
    chosen = shared.arguments(__doc__)
    folder = shared.model_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 512
    torch.manual_seed(1)
    dtype = torch.bfloat16 if chosen.work == "predict" and chosen.precision == "bf16" else torch.float32
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)
    if chosen.adapter != "none":
        model = peft.get_peft_model(model, peft.LoraConfig(**LORA))
    if chosen.work == "predict":
        if chosen.adapter == "merged":
            model = model.merge_and_unload()
        predict(chosen, model, tokenizer)
        return
    model.train()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=shared.RATE, weight_decay=0.01, fused=True)
    done, start, last = 0, 0.0, 0.0
    for number, (batch, count) in enumerate(labelled(tokenizer, chosen)):
        if number == chosen.warmup:
            start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=chosen.precision == "bf16"):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        last = loss.item()
        done += count if number >= chosen.warmup else 0
    trained = sum(parameter.numel() for parameter in learned)
    shared.answer("peft", "examples", done / (time.perf_counter() - start), loss=last, trained=trained)


if __name__ == "__main__":
    main()
