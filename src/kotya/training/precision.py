"""In what the matrix products of a run are computed: bfloat16 where the device multiplies in it, else float32.

A CPU without instructions for bfloat16 computes such products a number at a time: 1 GFLOP/s a core where float32 has 65
(AMD EPYC of the third generation). So `auto` asks the device, and a recipe runs well on any.
"""

import torch


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16 (AVX512-BF16, AMX, tensor cores from Ampere on)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def resolve(precision: str, device: torch.device) -> tuple[bool, str | None]:
    """Whether a run computes in bf16, and what the person should know of it, if anything."""
    able = multiplies_bf16(device)
    name = "this CPU" if device.type == "cpu" else f"this {device.type} device"
    if precision == "auto":
        return able, f"precision: {'bf16' if able else 'float32'}, which is what {name} is fast in"
    if precision == "bf16" and not able:
        return True, f"precision: bf16, in which {name} is many times slower than in float32"
    return precision == "bf16", None
