"""Where to compute."""

import torch


def device_named(device: str | torch.device) -> torch.device:
    """Find a device of this machine.

    Args:
        device: As torch names it; "auto" for the accelerator, or without one the CPU.

    Raises:
        ValueError: If there is no such device.
    """
    if device == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        msg = f"device: expected 'auto' or a device of this machine, got {str(device)!r} ({reason})"
        raise ValueError(msg) from error
