"""What several processes compute together, in two processes that talk through a file."""

from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from anomalib_zsad.functional.losses import masked_alignment
from anomalib_zsad.functional.processes import known_to_processes, sum_over_processes


def alignment(
    tokens: Tensor,  # (K, B, N, D)
    target: Tensor,  # (B, N)
) -> Tensor:
    anomalous = torch.einsum("kbnd,bn->kbd", tokens, target)
    return masked_alignment(tokens.sum(2) - anomalous, anomalous, (1 - target).sum(1), target.sum(1))


def batch() -> tuple[Tensor, Tensor]:
    """Anomalous patches between normal ones, so that the loss is above 0; one image has none."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.linalg.qr(torch.randn(2, 4, 8, 3, generator=generator)).Q.mT
    between = F.normalize(normal.sum(2, keepdim=True) + 0.1 * torch.randn(2, 4, 1, 8, generator=generator), dim=-1)
    target = torch.tensor([[0.0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]])
    return torch.cat([normal, between], dim=2), target


def in_a_process(rank: int, folder: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    tokens, target = batch()
    own = tokens[:, 2 * rank : 2 * rank + 2].clone().requires_grad_()
    loss = alignment(own, target[2 * rank : 2 * rank + 2])
    loss.backward()
    names = known_to_processes(["bottle", "cable"][rank:])
    torch.save((loss.detach(), own.grad, names), Path(folder, f"{rank}.pt"))
    distributed.destroy_process_group()


def test_the_alignment_of_two_processes_is_that_of_all_their_images(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(in_a_process, (str(tmp_path),), nprocs=2)
    (first, first_gradient, names), (second, second_gradient, same) = (
        torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)
    )
    tokens, target = batch()
    expected = alignment(tokens.requires_grad_(), target)
    expected.backward()

    assert expected > 0.05
    assert (alignment(tokens[:, :2], target[:2]) + alignment(tokens[:, 2:], target[2:])) / 2 - expected > 0.002
    torch.testing.assert_close((first, second), (expected.detach(), expected.detach()))
    # The gradients of processes are averaged, so each has twice its share.
    torch.testing.assert_close(torch.cat([first_gradient, second_gradient], dim=1) / 2, tokens.grad)
    assert names == same == [["bottle", "cable"], ["cable"]]


def test_one_process_is_left_alone() -> None:
    values = torch.ones(3)
    assert sum_over_processes(values) is values
    assert known_to_processes("bottle") == ["bottle"]
