"""Hugging Face `generate`: float32, lines sorted by length, batches of 64.

.benchmarks/venv/bin/python benchmarks/translate_transformers.py --beam 5
"""

import warnings

import torch
from transformers import MarianMTModel, MarianTokenizer

import translating

BATCH = 64


def main() -> None:
    arguments = translating.arguments(__doc__)
    warnings.simplefilter("ignore")  # it recommends a package
    folder = translating.model_folder()
    tokenizer = MarianTokenizer.from_pretrained(folder)
    model = MarianMTModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def translate(lines: list[str]) -> list[str]:
        ids = tokenizer(lines)["input_ids"]
        order = sorted(range(len(lines)), key=lambda i: len(ids[i]))
        outputs = [""] * len(lines)
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            batch = tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt")
            found = model.generate(**batch, num_beams=arguments.beam, max_new_tokens=100, do_sample=False)
            for row, text in zip(rows, tokenizer.batch_decode(found, skip_special_tokens=True), strict=True):
                outputs[row] = text
        return outputs

    translating.measure("Hugging Face generate", translate, beam=arguments.beam)


if __name__ == "__main__":
    main()
