"""kotya on the same weights, imported; a worker a core, set up as its command line sets itself up.

python benchmarks/translate_kotya.py --beam 5
"""

import shutil
import subprocess
import sys

from kotya.cli.allocator import tune_allocator

tune_allocator()

import corpus  # noqa: E402
import kotya  # noqa: E402
import translating  # noqa: E402
from kotya.cli.options import prepare_workers  # noqa: E402


def main() -> None:
    arguments = translating.arguments(__doc__)
    imported = corpus.FOLDER / "imported"
    if not imported.exists():
        kotya_command = shutil.which("kotya", path=str(sys.prefix) + "/bin")
        subprocess.run([kotya_command, "import", translating.model_folder(), imported], check=True)
    workers = prepare_workers(None, "cpu")
    translator = kotya.load(str(imported))

    def translate(lines: list[str]) -> list[str]:
        cap = {"max_length_ratio": 0, "max_length_extra": 101}  # 100 pieces and the end
        return translator.translate(lines, beam=arguments.beam, workers=workers, **cap)

    translating.measure("kotya", translate, beam=arguments.beam)


if __name__ == "__main__":
    main()
