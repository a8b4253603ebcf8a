"""Makes `.benchmarks/venv`, the peers' own environment, once: nothing of theirs enters kotya's.

    python benchmarks/peers.py

torch comes first, pinned, so that nothing later pulls another build of it. JoeyNMT's pins do not fit a
current torch and Python, so it is installed without its dependencies and patched where its imports fail.
"""

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".benchmarks" / "venv"
PYTHON = FOLDER / "bin" / "python"
STEPS = (
    ["--upgrade", "pip"],
    ["torch==2.13.0"],
    ["transformers==5.23.0", "sentencepiece==0.2.3", "tokenizers==0.23.3", "sacrebleu==2.6.0"],
    ["ctranslate2==4.8.5"],
    ["--no-deps", "joeynmt==2.3.0"],
    ["numpy<3", "PyYAML", "packaging", "tensorboard", "matplotlib", "seaborn", "pandas", "sacremoses"],
    ["eflomal==2.0.0"],
    ["subword-nmt==0.3.8", "datasets", "importlib-metadata", "six", "wrapt"],
    ["accelerate", "nervaluate>=1.2", "ir-measures>=0.4"],
    ["peft==0.21.2"],
)


def install() -> Path:
    """The peers' Python, its packages installed on the first call; or that of KOTYA_PEERS, which has them."""
    if "KOTYA_PEERS" in os.environ:
        return Path(os.environ["KOTYA_PEERS"])
    ready = FOLDER / "ready"
    done = ready.read_text(encoding="utf-8").splitlines() if ready.exists() else []
    if not FOLDER.exists():
        subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
    for step in STEPS:
        if " ".join(step) not in done:
            print("installing", *step, file=sys.stderr, flush=True)
            subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *step], check=True)
            done.append(" ".join(step))
            ready.write_text("".join(f"{one}\n" for one in done), encoding="utf-8")
    return PYTHON


if __name__ == "__main__":
    print(install())
