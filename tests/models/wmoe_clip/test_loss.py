import pytest
import torch
from torch.nn import functional as F

from anomalib_zsad.functional.losses import clamped_focal_loss, dice_loss
from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices
from anomalib_zsad.models.wmoe_clip.experts import Routed
from anomalib_zsad.models.wmoe_clip.loss import WMoEClipLoss
from anomalib_zsad.models.wmoe_clip.sampler import Sample
from anomalib_zsad.models.wmoe_clip.torch_model import Logits

LABEL = torch.tensor([0, 1, 1])
MASK = torch.zeros(3, 8, 8, dtype=torch.uint8)
MASK[1:, :4] = 255
PERFECT = (MASK > 0).float()[:, None].expand(-1, 4, -1, -1)


def logits(**parts):
    image = torch.tensor([[20.0, -20.0], [-20.0, 20.0], [-20.0, 20.0]])
    empty = {"patches": torch.zeros(3, 4, 2, 2, 2), "sample": None, "attended": [], "routed": None}
    return Logits(**{"image": image, **empty, **parts})


def random_parts():
    generator = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    sample = Sample(normal(3, 5), normal(3, 5), normal(3, 5), normal(3, 2, 5), normal(3, 2, 5))
    weights = F.one_hot(torch.tensor([0, 0, 1]), 8).float()
    return logits(image=normal(3, 2), sample=sample, routed=Routed(normal(3, 5), normal(3, 8), weights)), torch.rand(
        3, 4, 8, 8, generator=generator
    )


def test_perfect_maps_and_scores_cost_nothing():
    terms = WMoEClipLoss()(logits(), PERFECT, LABEL, MASK)
    assert terms.keys() == {"loss", "loss_global", "loss_focal", "loss_dice"}
    assert all(term <= 1e-4 for term in terms.values())


def test_an_empty_mask_and_an_empty_map_agree():
    terms = WMoEClipLoss()(logits(), torch.zeros(3, 4, 8, 8), LABEL * 0, MASK * 0)
    assert terms["loss_dice"] == 0
    assert terms["loss_focal"] < 1e-4


def test_each_layer_has_a_share():
    _, maps = random_parts()
    whole = WMoEClipLoss()(logits(), maps, LABEL, MASK)
    target = PERFECT[:, 0]
    for layer in range(4):
        better = maps.clone()
        better[:, layer] = PERFECT[:, layer]
        terms = WMoEClipLoss()(logits(), better, LABEL, MASK)
        focal, dice = clamped_focal_loss(maps[:, layer], target > 0), dice_loss(maps[:, layer], target)
        torch.testing.assert_close(whole["loss_focal"] - terms["loss_focal"], focal, atol=1e-5, rtol=0)
        torch.testing.assert_close(whole["loss_dice"] - terms["loss_dice"], dice, atol=1e-5, rtol=0)


def test_the_weights_of_the_losses_count():
    given, maps = random_parts()
    arguments = (given, maps, LABEL, MASK)
    terms = WMoEClipLoss(WMoEChoices(balance_weight=1.0))(*arguments)
    weighted = WMoEClipLoss(WMoEChoices(balance_weight=11.0), 2, 3, 5, 7)(*arguments)
    local = terms["loss_focal"] + terms["loss_dice"]
    expected = 2 * terms["loss_global"] + 3 * local + 5 * terms["loss_kl"] + 7 * terms["loss_rec"]
    torch.testing.assert_close(weighted["loss"], expected + 11 * terms["loss_balance"])
    assert "loss_balance" not in WMoEClipLoss()(*arguments)


def test_without_samples_there_is_nothing_to_diverge_or_reconstruct():
    given, maps = random_parts()
    terms = WMoEClipLoss()(given._replace(sample=None), maps, LABEL, MASK)
    assert not {"loss_kl", "loss_rec"} & terms.keys()
    torch.testing.assert_close(terms["loss"], terms["loss_global"] + terms["loss_focal"] + terms["loss_dice"])


@pytest.mark.parametrize("reduction", ["half", "clamp", "separate", "logits"])
def test_what_the_cross_entropy_sees(reduction):
    given, maps = random_parts()
    text, peak = given.image.softmax(-1)[:, 1].double(), maps.mean(1).flatten(1).amax(1).double()
    truth = LABEL.double()

    def cross_entropy(p):
        return -(truth * p.log() + (1 - truth) * (1 - p).log()).mean()

    expected = {
        "half": lambda: cross_entropy((text + peak) / 2),
        "clamp": lambda: cross_entropy((text + peak).clamp(max=1 - 1e-12)),
        "separate": lambda: (cross_entropy(text) + cross_entropy(peak)) / 2,
        "logits": lambda: cross_entropy((text + peak).sigmoid()),
    }[reduction]()
    found = WMoEClipLoss(WMoEChoices(score_reduction=reduction))(given, maps, LABEL, MASK)["loss_global"]
    if reduction == "clamp" and (text + peak)[0] > 1:  # certain and wrong: torch stops at 100
        assert found > 10
    else:
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


def test_the_cross_entropy_sees_the_sum_of_maps_as_it_is_scored():
    given, maps = random_parts()
    text, peak = given.image.softmax(-1)[:, 1], maps.sum(1).flatten(1).amax(1)
    found = WMoEClipLoss(WMoEChoices(map_reduction="sum"))(given, maps, LABEL, MASK)["loss_global"]
    torch.testing.assert_close(found, F.binary_cross_entropy((text + peak) / 5, LABEL.float()))


def test_gradients_stay_finite_at_the_ends():
    maps = PERFECT.clone()
    maps[0] = 1
    maps.requires_grad_()
    terms = WMoEClipLoss(WMoEChoices(focal_gamma=1.5))(logits(), maps, LABEL, MASK)
    terms["loss"].backward()
    assert terms["loss"] > 1
    assert maps.grad.isfinite().all()
