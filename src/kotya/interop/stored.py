"""The weights of a Hugging Face folder: a safetensors file; pickles are never loaded."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from kotya.errors import KotyaError


def read_stored(path: Path) -> dict[str, Tensor]:
    """Every tensor of the file by its name. Raises KotyaError where it is missing or broken."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise KotyaError(_no_weights(path)) from None
    except (SafetensorError, OSError) as problem:
        raise KotyaError(f"{path}: broken or cut off ({problem}); fetch it again") from None


def _no_weights(path: Path) -> str:
    """Names what there is instead, if anything."""
    if (path.parent / "pytorch_model.bin").exists():
        return (
            f"{path}: no such file; pytorch_model.bin is a pickle, which kotya does not load: "
            "save the model again with safe_serialization=True"
        )
    if path.with_name(f"{path.name}.index.json").exists():
        return f"{path}: no such file; weights in several files are not read: save the model again in one"
    return f"{path}: no such file; a Hugging Face folder keeps its weights there"
