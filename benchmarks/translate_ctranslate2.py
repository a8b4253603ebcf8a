"""CTranslate2 on the same weights, converted by its own converter: 2 workers of 1 thread, float32 or int8.

.benchmarks/venv/bin/python benchmarks/translate_ctranslate2.py --beam 5 --type int8
"""

import ctranslate2
import sentencepiece

import corpus
import translating


def main() -> None:
    arguments = translating.arguments(__doc__)
    folder = translating.model_folder()
    converted = corpus.FOLDER / "ctranslate2"
    if not (converted / "model.bin").exists():
        ctranslate2.converters.TransformersConverter(str(folder)).convert(str(converted), force=True)
    translator = ctranslate2.Translator(
        str(converted), compute_type=arguments.type, inter_threads=2, intra_threads=1
    )
    source = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    target = sentencepiece.SentencePieceProcessor(model_file=str(folder / "target.spm"))

    def translate(lines: list[str]) -> list[str]:
        pieces = [[*line, "</s>"] for line in source.encode(lines, out_type=str)]
        results = translator.translate_batch(
            pieces, beam_size=arguments.beam, max_batch_size=64, max_decoding_length=100
        )
        return [target.decode(result.hypotheses[0]) for result in results]

    translating.measure("CTranslate2", translate, beam=arguments.beam, type=arguments.type)


if __name__ == "__main__":
    main()
