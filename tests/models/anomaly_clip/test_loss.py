import math

import pytest
import torch

from anomalib_zsad.models.anomaly_clip.loss import AnomalyClipLoss

LABEL = torch.tensor([0, 1])


def slowly(maps, mask):
    """Focal and both dice losses, pixel by pixel and image by image."""
    focal, anomalous, normal = [], [], []
    for probabilities, truth in zip(maps.tolist(), mask.tolist(), strict=True):
        pixels = [
            (p, t) for row, line in zip(probabilities, truth, strict=True) for p, t in zip(row, line, strict=True)
        ]
        for p, t in pixels:
            soft = min(max(t, 1e-5), 1 - 1e-5)
            likelihood = soft * p + (1 - soft) * (1 - p) + 1e-5
            focal.append(-((1 - likelihood) ** 2) * math.log(likelihood))
        for sums, each in ((anomalous, pixels), (normal, [(1 - p, 1 - t) for p, t in pixels])):
            overlap, total = sum(p * t for p, t in each), sum(p + t for p, t in each)
            sums.append(1 - (2 * overlap + 1) / (total + 1))
    return sum(focal) / len(focal), sum(anomalous) / len(anomalous), sum(normal) / len(normal)


@pytest.mark.parametrize("layers", [1, 3])
def test_terms_are_those_of_the_definition_summed_over_layers(layers):
    generator = torch.Generator().manual_seed(0)
    image, maps = torch.randn(2, 2, generator=generator), torch.rand(layers, 2, 5, 4, generator=generator)
    mask = torch.zeros(2, 5, 4, dtype=torch.uint8)
    mask[1, 2:, :2] = 255
    terms = AnomalyClipLoss(lambda_local=3.0)(image, maps, LABEL, mask)
    local = [sum(values) for values in zip(*(slowly(each, (mask > 0).int()) for each in maps), strict=True)]
    for name, value in zip(("loss_focal", "loss_dice_anomalous", "loss_dice_normal"), local, strict=True):
        assert terms[name].item() == pytest.approx(value, abs=1e-5)
    wrong = [math.log1p(math.exp(a - b)) for a, b in (image[0].flip(0).tolist(), image[1].tolist())]
    assert terms["loss_image"].item() == pytest.approx(sum(wrong) / 2, abs=1e-5)
    assert terms["loss"].item() == pytest.approx(sum(wrong) / 2 + 3 * sum(local), abs=1e-4)


def test_shares_of_a_pixel_count_from_above_one_half():
    loss, image, maps = AnomalyClipLoss(), torch.zeros(2, 2), torch.full((1, 2, 1, 3), 0.3)
    shares = torch.tensor([[[0.0, 0.0, 0.0]], [[0.5, 0.51, 1.0]]])
    whole = torch.tensor([[[False] * 3], [[False, True, True]]])
    assert torch.equal(loss(image, maps, LABEL, shares)["loss"], loss(image, maps, LABEL, whole)["loss"])


def test_halves_of_a_batch_have_its_loss_in_the_mean():
    """So that processes, each with its part, train as one does."""
    generator = torch.Generator().manual_seed(0)
    image, maps = torch.randn(4, 2, generator=generator), torch.rand(2, 4, 5, 5, generator=generator)
    label, mask = torch.tensor([0, 1, 1, 0]), torch.zeros(4, 5, 5, dtype=torch.uint8)
    mask[1, :2], mask[2, 1:4, 3] = 1, 1
    loss = AnomalyClipLoss()
    halves = [loss(image[i : i + 2], maps[:, i : i + 2], label[i : i + 2], mask[i : i + 2])["loss"] for i in (0, 2)]
    torch.testing.assert_close(loss(image, maps, label, mask)["loss"], torch.stack(halves).mean())
