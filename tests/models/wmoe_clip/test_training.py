import pytest
import torch

from anomalib_zsad.data import VisA
from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.models.wmoe_clip import WMoEChoices, WMoEClip
from anomalib_zsad.models.wmoe_clip.diagnostics import Seen, of_epoch
from tests.support.contract import TRAINED_ON, batch, engine_in, images


@pytest.fixture
def model(small_clip):
    return WMoEClip(pretrained=small_clip, image_size=56, epochs=2)


def test_training_lowers_the_loss(model):
    torch.manual_seed(0)
    optimizer = model.configure_optimizers()
    found = []
    for _ in range(12):
        optimizer.zero_grad()
        terms = model.loss_terms(batch())
        terms["loss"].backward()
        optimizer.step()
        found.append({name: term.item() for name, term in terms.items()})
    assert found[-1]["loss"] < 0.95 * found[0]["loss"]
    for name in ("loss_global", "loss_focal", "loss_dice"):
        assert found[-1][name] < found[0][name]


def test_training_samples_and_evaluation_does_not(model):
    torch.manual_seed(0)
    first, second = (model.loss_terms(batch())["loss_rec"] for _ in range(2))
    torch.manual_seed(0)
    assert model.loss_terms(batch())["loss_rec"] == first != second
    with torch.no_grad():
        assert torch.equal(model.model(batch().image).pred_score, model.eval().model(batch().image).pred_score)


def test_balance_is_an_option(small_clip):
    assert "loss_balance" not in WMoEClip(pretrained=small_clip, image_size=56).loss_terms(batch())
    balanced = WMoEClip(pretrained=small_clip, image_size=56, choices=WMoEChoices(balance_weight=0.01))
    assert balanced.loss_terms(batch())["loss_balance"] > 0


@torch.no_grad()
def test_the_router_has_noise_in_training_and_none_in_evaluation(small_clip):
    options = {"pretrained": small_clip, "image_size": 56, "use_ctds": False}
    models = [WMoEClip(**options, choices=WMoEChoices(gate_noise=on)) for on in (False, True)]
    plain, noisy = models
    noisy.load_state_dict(plain.state_dict(), strict=False)
    before = torch.get_rng_state()
    assert plain.loss_terms(batch())["loss"] == plain.loss_terms(batch())["loss"]
    scores = [model.eval().model(batch().image).pred_score for model in (*models, noisy)]
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[1], scores[2])
    assert torch.equal(torch.get_rng_state(), before)
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(noisy.loss_terms(batch())["loss_global"].item())
    assert losses[0] == losses[1] != losses[2]
    assert plain.loss_terms(batch())["loss_global"] not in losses


@pytest.mark.parametrize("shared", [True, False])
def test_a_gate_with_batch_normalisation_trains_with_any_batch_and_comes_back_from_its_file(
    small_clip, tmp_path, shared
):
    options = {"image_size": 56, "choices": WMoEChoices(gate_bn=True, wcma_shared=shared)}
    model = WMoEClip(pretrained=small_clip, **options)
    single = CategoryBatch(image=images(1), gt_label=batch().gt_label[:1], gt_mask=batch().gt_mask[:1])
    for given in (batch(), single):
        model.loss_terms(given)["loss"].backward()
    scores = model.eval().model(images()).pred_score
    torch.testing.assert_close(model.model(images(1)).pred_score, scores[:1], atol=1e-5, rtol=0)
    assert torch.equal(model.model(images()).pred_score, scores)
    model.trained_on = ["VisA/candle"]
    model.save_weights(tmp_path / "weights.safetensors")
    again = WMoEClip(pretrained=small_clip, weights=tmp_path / "weights.safetensors", **options).eval()
    assert torch.equal(again.model(images()).pred_score, scores)


def test_two_trainings_with_one_seed_are_the_same(small_clip, visa_root, tmp_path):
    learnt = []
    for run in range(2):
        model = WMoEClip(pretrained=small_clip, image_size=56, epochs=1)
        data = VisA(visa_root, TRAINED_ON, val_ratio=0.3, num_workers=0, train_batch_size=4)
        engine_in(tmp_path / str(run), limit_train_batches=2).fit(model, datamodule=data)
        learnt.append(torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad]))
    assert torch.equal(*learnt)


def test_what_may_collapse_is_logged(model, visa_root, tmp_path):
    data = VisA(visa_root, TRAINED_ON, val_ratio=0.3, num_workers=0, train_batch_size=4)
    engine = engine_in(tmp_path)
    engine.fit(model, datamodule=data)
    logged = {name: value.item() for name, value in engine.trainer.callback_metrics.items()}
    load = [logged[f"train_expert_load_{i}"] for i in range(1, 9)]
    assert sum(load) == pytest.approx(2)
    for layer in range(1, 5):
        assert 0 < logged[f"train_attention_entropy_{layer}"] <= torch.tensor(16.0).log() + 1e-5
        assert -1 <= logged[f"train_text_cosine_{layer}"] <= 1 + 1e-5
        assert 0 < logged[f"train_gate_{layer}"] < 1
    assert 0 < logged["train_router_entropy"] <= torch.tensor(8.0).log() + 1e-5
    assert 0 <= logged["train_normal_map_min"] <= logged["train_normal_map_max"] <= 1
    assert 0 <= logged["train_auroc_text"] <= 1
    assert 0 <= logged["train_auroc_map"] <= 1
    assert logged["train_class_token_length"] > 0
    assert logged["train_reconstruction_share"] > 0
    assert {
        "train_loss_kl",
        "train_loss_rec",
        "train_active_dimensions",
        "train_class_token_directions",
    } <= logged.keys()
    assert model._seen == []


def test_an_epoch_that_was_interrupted_leaves_nothing_to_the_next(model, visa_root, tmp_path):
    data = VisA(visa_root, TRAINED_ON, val_ratio=0.3, num_workers=0, train_batch_size=4)
    seen = []

    def interrupted(*_):
        seen.append(len(model._seen))
        raise FloatingPointError

    model.on_train_batch_end = interrupted
    for _ in range(2):
        with pytest.raises(FloatingPointError):
            engine_in(tmp_path).fit(model, datamodule=data)
    assert seen == [1, 1]


def test_directions_and_dimensions_are_counted():
    generator = torch.Generator().manual_seed(0)
    token = torch.randn(400, 6, generator=generator) * torch.tensor([3.0, 1.0, 0.9, 0.1, 0.1, 0.0])
    ramp = torch.linspace(0, 1, 400)
    scores = torch.stack([ramp, -ramp, 1 - ramp, (ramp > 0.5).float()])
    divergences = torch.tensor([0.5, 0.02, 0.001, 0, 0, 0]).expand(400, -1)
    variance = torch.cov(token.T).diagonal().sum()
    found = of_epoch([Seen(scores, [token, divergences, torch.full((400, 2), variance.item() / 2)])])
    assert found["class_token_directions"] == 3
    assert found["active_dimensions"] == 2
    torch.testing.assert_close(found["class_token_variance"], variance)
    assert found["reconstruction_share"].item() == pytest.approx(0.5)
    assert (found["auroc_text"], found["auroc_map"]) == (1, 0)
    assert found["normal_map_min"] == -ramp[199]
    assert found["normal_map_max"] == 1


def test_the_cosine_schedule_rises_and_falls(small_clip, visa_root, tmp_path):
    model = WMoEClip(pretrained=small_clip, image_size=56, epochs=10, choices=WMoEChoices(lr_schedule="cosine"))
    rates = []
    model.on_train_batch_start = lambda batch, index: rates.append(model.optimizers().param_groups[0]["lr"])
    data = VisA(visa_root, TRAINED_ON, val_ratio=0.3, num_workers=0, train_batch_size=4)
    engine_in(tmp_path, limit_val_batches=0).fit(model, datamodule=data)
    assert len(rates) == 20
    assert rates[:3] == [pytest.approx(1e-4), pytest.approx(2e-4), pytest.approx(2e-4)]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] < 5e-6


def test_defaults_are_those_of_the_paper(small_clip):
    model = WMoEClip(pretrained=small_clip, image_size=56)
    group = model.configure_optimizers().param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (2e-4, (0.5, 0.999), 0)
    assert WMoEClip(pretrained=small_clip, image_size=56).hparams["epochs"] == 20


def test_what_learns_stays_in_float32_under_autocast(model):
    torch.manual_seed(0)
    exact = model.loss_terms(batch())["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(0)
        terms = model.loss_terms(batch())
        terms["loss"].backward()
    assert {term.dtype for term in terms.values()} == {torch.float32}
    torch.testing.assert_close(terms["loss"], exact, atol=0, rtol=2e-2)
    assert {p.grad.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
