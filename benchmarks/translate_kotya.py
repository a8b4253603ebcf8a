"""kotya on the same weights, imported.

python benchmarks/translate_kotya.py --beam 5
"""

import shutil
import subprocess
import sys

import corpus
import kotya
import translating


def main() -> None:
    arguments = translating.arguments(__doc__)
    imported = corpus.FOLDER / "imported"
    if not imported.exists():
        kotya_command = shutil.which("kotya", path=str(sys.prefix) + "/bin")
        subprocess.run([kotya_command, "import", translating.model_folder(), imported], check=True)
    translator = kotya.load(str(imported))

    def translate(lines: list[str]) -> list[str]:
        return translator.translate(lines, beam=arguments.beam)

    translating.measure("kotya", translate, beam=arguments.beam)


if __name__ == "__main__":
    main()
