"""What torch can compute on."""

import os

import torch

from anomalib_zsad.installation.findings import Finding


def find_devices() -> list[Finding]:
    """List the processor and the accelerators."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = Finding("cpu", f"{cores} cores, {torch.get_num_threads()} threads of torch")
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return [cpu, Finding("gpu", f"none that torch {torch.__version__} can use", "absent")]
    names = range(torch.accelerator.device_count())
    if accelerator.type != "cuda":
        return [cpu, *(Finding(f"{accelerator.type}:{number}", "available") for number in names)]
    return [cpu, *(_cuda(number) for number in names)]


def _cuda(number: int) -> Finding:
    found = torch.cuda.get_device_properties(number)
    return Finding(f"cuda:{number}", f"{found.name}, {found.total_memory / 2**30:.0f} GiB")
