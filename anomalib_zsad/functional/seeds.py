"""Random numbers that depend on what they are drawn for, and not on when or in which process they are drawn."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Generator, Tensor


def seed_of(purpose: str, *numbers: int) -> int:
    """Derive a seed of 32 bits: another one for every purpose and all numbers, the same on every machine."""
    digest = hashlib.blake2b(repr((purpose, *map(int, numbers))).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def generator_of(purpose: str, *numbers: int) -> Generator:
    """Make a generator on the CPU with the seed that `seed_of` derives."""
    return Generator().manual_seed(seed_of(purpose, *numbers))


def standard_normal(
    generators: Sequence[Generator | None],  # B; None stands for torch's own
    *shape: int,
) -> Tensor:  # (B, *shape)
    """Draw a standard normal tensor from each generator, on the CPU."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator on the CPU for a block, and leave it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
