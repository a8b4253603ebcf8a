"""kotya on the same weights, the Marian's imported; a worker a core, set up as its command line sets itself up.

python benchmarks/translate_kotya.py --beam 5
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from kotya.cli.allocator import tune_allocator

tune_allocator()

import kotya  # noqa: E402
import rnns  # noqa: E402
import translating  # noqa: E402
from kotya.cli.options import prepare_workers  # noqa: E402
from kotya.inference.translator import Translator  # noqa: E402


def load(name: str) -> Translator:
    if name in rnns.NAMES:
        return kotya.load(rnns.folder(name), device="cpu")
    with tempfile.TemporaryDirectory() as folder:  # imported anew: an older import may say less
        imported = Path(folder) / "imported"
        command = [sys.executable, "-m", "kotya", "import", str(translating.model_folder()), str(imported)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return kotya.load(imported, device="cpu")


def main() -> None:
    arguments = translating.arguments(__doc__)
    workers = prepare_workers(None, "cpu")
    translator = load(arguments.model)

    def translate(lines: list[str]) -> list[str]:
        # so many pieces, and the end
        cap = {"max_length_ratio": 0, "max_length_extra": translating.cap(arguments.model) + 1}
        return translator.translate(lines, beam=arguments.beam, workers=workers, **cap)

    translating.measure("kotya", translate, beam=arguments.beam)


if __name__ == "__main__":
    main()
