"""One line that says on what the figures of a benchmark were measured, and how many others were at work there."""

import os
import platform
import sys

import torch


def describe(device: str = "cpu") -> str:
    """The processor, and the GPU if the figures are of one."""
    model = platform.processor() or platform.machine()
    features = ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            facts = dict(
                line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines() if ":" in line
            )
        facts = {key.strip(): value.strip() for key, value in facts.items()}
        model = facts.get("model name", model)
        flags = facts.get("flags", "").split()
        features = ", ".join(flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags)
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    python = f"Python {platform.python_version()}"
    gpu = f"{torch.cuda.get_device_name()}, " if device == "cuda" else ""
    return f"{gpu}{cores} cores of {model} ({features}); {python}, torch {torch.__version__}; {sys.platform}; {load}"
