"""Seeds that name what they are for."""

import torch

from anomalib_zsad.functional.seeds import generator_of, seed_of, seeded, standard_normal


def test_a_seed_is_the_same_everywhere_and_no_other_ones() -> None:
    assert seed_of("noise", 0, 1, 2) == seed_of("noise", 0, 1, 2) < 2**32
    others = [("noise", 0, 2, 1), ("noise", 0, 1), ("noise", 0, 12), ("noise", 0, 1, 2, 0), ("order", 0, 1, 2)]
    assert len({seed_of("noise", 0, 1, 2), *(seed_of(*each) for each in others)}) == 6


def test_rows_are_drawn_one_by_one() -> None:
    rows = standard_normal([generator_of("noise", index) for index in range(300)], 2, 50)
    assert rows.shape == (300, 2, 50)
    assert torch.equal(rows[7:8], standard_normal([generator_of("noise", 7)], 2, 50))
    assert abs(rows.mean()) < 0.03
    assert abs(rows.std() - 1) < 0.03
    torch.manual_seed(3)
    drawn = standard_normal([None], 2)
    torch.manual_seed(3)
    assert torch.equal(drawn[0], torch.randn(2))


def test_a_block_with_a_seed_leaves_the_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    with seeded(3):
        drawn = torch.randn(2)
    assert torch.equal(drawn, torch.randn(2, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(torch.get_rng_state(), before)
