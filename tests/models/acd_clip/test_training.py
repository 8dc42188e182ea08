import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_zsad.data import MVTec, VisA
from anomalib_zsad.models.acd_clip import ACDClip
from anomalib_zsad.models.acd_clip.loss import ACDClipLoss
from anomalib_zsad.models.acd_clip.torch_model import SCORING
from tests.support.contract import TRAINED_ON, UNSEEN, batch, engine_in


@pytest.fixture
def model(small_clip):
    return ACDClip(pretrained=small_clip, image_size=56, n_groups=2, epochs=2)


def test_text_and_vision_learn_at_rates_of_their_own_that_fall_every_epoch(model, visa_root, tmp_path):
    rates = []
    model.on_train_epoch_start = lambda: rates.append([group["lr"] for group in model.optimizers().param_groups])
    engine_in(tmp_path).fit(model, datamodule=VisA(visa_root, TRAINED_ON, val_ratio=0.3, num_workers=0))
    assert rates == [pytest.approx([5e-4, 1e-3]), pytest.approx([4.5e-4, 9e-4])]


def test_twenty_epochs_by_default(small_clip):
    assert ACDClip(pretrained=small_clip, image_size=56, n_groups=2).hparams["epochs"] == 20


def test_only_the_gradients_of_mixing_vectors_are_clipped(model):
    (1e6 * model.loss_terms(batch())["loss"]).backward()
    before = {name: p.grad.clone() for name, p in model.model.named_parameters() if p.requires_grad}
    model.on_before_optimizer_step(None)
    for name, gradient in before.items():
        now = model.model.get_parameter(name).grad
        if name.endswith(("mixed.0.weight", "mixed.1.weight")):
            assert gradient.norm() > 1
            assert now.norm() == pytest.approx(1, abs=1e-4)
        else:
            assert torch.equal(now, gradient)


def test_training_lowers_the_loss(model):
    optimizer = model.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = model.loss_terms(batch())["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


class Scans(MVTec):
    """A medical dataset, by its name."""

    name = "BMAD"


def test_the_domain_is_that_of_the_dataset_to_test_on(model, visa_root, mvtec_root, tmp_path):
    target = Scans(mvtec_root, UNSEEN, num_workers=0)
    engine_in(tmp_path).train(model, datamodule=VisA(visa_root, TRAINED_ON, target=target, num_workers=0))
    assert model.model.scoring == SCORING["medical"]
    engine_in(tmp_path).test(model, datamodule=MVTec(mvtec_root, UNSEEN, num_workers=0))
    assert model.model.scoring == SCORING["industrial"]


def test_an_argument_overrides_the_domain(small_clip, visa_root, tmp_path):
    model = ACDClip(
        pretrained=small_clip, image_size=56, n_groups=2, epochs=1, domain="medical", choices={"blur_size": 3}
    )
    engine_in(tmp_path).fit(model, datamodule=VisA(visa_root, TRAINED_ON, val_ratio=0.3, num_workers=0))
    scoring = model.model.scoring
    assert (scoring.class_weight, scoring.blur_size, scoring.blur_sigma) == (0.5, 3, 1.5)


def test_training_and_testing_use_the_names_of_their_own_datasets(model, visa_root, mvtec_root, tmp_path):
    named = []
    names_of = model.names_of

    def note(batch):
        names = names_of(batch)
        named.extend((model.trainer.state.fn, *pair) for pair in zip(batch.category, names, strict=True))
        return names

    model.names_of = note
    data = VisA(visa_root, ["pcb1"], target=MVTec(mvtec_root, ["metal_nut"], num_workers=0), num_workers=0)
    engine_in(tmp_path).train(model, datamodule=data)
    assert set(named) == {
        (TrainerFn.FITTING, "pcb1", "dual ultrasonic distance sensor pcb module"),
        (TrainerFn.TESTING, "metal_nut", "metal nut which has four notched edges"),
    }


def test_perfect_maps_cost_nothing_and_wrong_ones_much():
    target = batch().gt_mask
    logits = torch.tensor([[50.0, -50.0], [-50.0, 50.0], [-50.0, 50.0]])
    perfect = ACDClipLoss()(logits, target.float(), batch().gt_label, target)
    wrong = ACDClipLoss()(logits, 1 - target.float(), batch().gt_label, target)
    assert perfect["loss"] < 1e-4
    assert wrong["loss_focal"] > 5
    assert wrong["loss_dice_normal"] > 0.9
    assert wrong["loss_dice_anomalous"] > 0.9
    assert wrong["loss_class"] == perfect["loss_class"]


@pytest.mark.parametrize("gamma", [2.0, 1.5])
def test_the_loss_and_its_gradient_stay_finite_at_the_ends(gamma):
    maps = torch.tensor([0.0, 1.0, 1.0, 0.0]).reshape(1, 2, 2).requires_grad_()
    mask = torch.tensor([0, 1, 0, 1], dtype=torch.uint8).reshape(1, 2, 2)
    terms = ACDClipLoss(focal_gamma=gamma)(torch.zeros(1, 2), maps, torch.tensor([1]), mask)
    terms["loss"].backward()
    assert all(term.isfinite() for term in terms.values())
    assert maps.grad.isfinite().all()


def test_the_weights_of_the_losses_count():
    maps = torch.rand(3, 56, 56, generator=torch.Generator().manual_seed(0))
    arguments = (torch.randn(3, 2), maps, batch().gt_label, batch().gt_mask)
    terms = ACDClipLoss()(*arguments)
    weighted = ACDClipLoss(lambda_focal=2, lambda_dice=3, lambda_class=5)(*arguments)
    dice = terms["loss_dice_normal"] + terms["loss_dice_anomalous"]
    expected = 5 * terms["loss_class"] + 2 * terms["loss_focal"] + 3 * dice
    torch.testing.assert_close(weighted["loss"], expected)
