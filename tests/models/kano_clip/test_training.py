"""Losses, knowledge, optimiser and what is logged."""

import json
import logging

import numpy as np
import pytest
import torch

from anomalib_zsad.data import VisA
from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.knowledge import load_knowledge
from anomalib_zsad.models.kano_clip import diagnostics
from anomalib_zsad.models.kano_clip.loss import KAnoClipLoss, knowledge_distances, knowledge_loss
from tests.models.kano_clip import reference
from tests.models.kano_clip.building import build
from tests.support.contract import TRAINED_ON, batch, engine_in, images

ORIGIN = {"backend": "file", "model": "", "prompt_sha256": "", "options": {}}


def described(*texts):
    return [{"text": text, "clip_tokens": 10} for text in texts]


@pytest.fixture
def base(tmp_path):
    """Two classes, one with a description of one of its images."""
    image = {
        "image_sha256": "0" * 64,
        "label": 1,
        "status": "ok",
        "descriptions": described("A deep dent on the left."),
    }
    classes = {
        "candle": {
            "display_name": "candle",
            "llm": described("A candle with a chipped edge.", "A candle with a stain."),
            "vqa": {"candle/Anomaly/3.png": image},
        },
        "pcb1": {"display_name": "board", "llm": described("A board with a bent pin."), "vqa": {}},
        "object": {"display_name": "object", "llm": described("An object that is broken."), "vqa": {}},
    }
    content = {"schema_version": 1, "dataset": "VisA", "llm": ORIGIN, "vqa": ORIGIN, "n": 2, "m": 1, "classes": classes}
    path = tmp_path / "kb.json"
    path.write_text(json.dumps(content))
    return path


def unit(*values):
    return torch.nn.functional.normalize(torch.tensor(values, dtype=torch.float32), dim=-1)


# The knowledge-driven loss


def test_knowledge_pulls_only_where_the_normal_prompts_are_nearer():
    k, n, a = unit(1, 0, 0), unit(1, 1, 0), unit(0, 1, 1)
    assert knowledge_loss(knowledge_distances(k[None], torch.stack([n, k])[None])).item() == 0
    assert knowledge_loss(knowledge_distances(k[None], torch.stack([a, n])[None])).item() == 0
    ours = knowledge_loss(knowledge_distances(k[None], torch.stack([k, a])[None])).item()
    assert ours == pytest.approx((k - a).norm().item(), abs=1e-6)
    assert knowledge_loss(knowledge_distances(k[None], torch.stack([k, -k])[None])).item() == pytest.approx(2)
    assert knowledge_loss(torch.tensor([[1.0, 0.9]]), margin=0.3).item() == pytest.approx(0.2)


def test_the_lengths_of_features_do_not_count():
    k, text = torch.randn(4, 8), torch.randn(4, 2, 8)
    distances = knowledge_distances(k, text)
    torch.testing.assert_close(knowledge_distances(3 * k, 7 * text), distances)
    assert (distances <= 2).all()


def test_a_step_draws_abnormal_prompts_to_the_knowledge_and_normal_ones_away():
    k = unit(1, 0, 0)[None]
    text = torch.stack([unit(1, 1, 0), unit(0, 1, 1)])[None].requires_grad_()
    before = knowledge_distances(k, text)
    knowledge_loss(before).sum().backward()
    normal, abnormal = knowledge_distances(k, text - 0.1 * text.grad)[0]
    assert abnormal < before[0, 1]
    assert normal > before[0, 0]


def test_its_gradient_is_finite_where_features_coincide():
    k = unit(1, 2, 3)[None]
    text = torch.stack([k[0], k[0]])[None].clone().requires_grad_()
    knowledge_loss(knowledge_distances(k, text), margin=0.1).sum().backward()
    assert text.grad.isfinite().all()


# All losses


@pytest.mark.parametrize("norm", ["softmax", "minmax"])
def test_the_losses_are_the_equations(small_clip, norm):
    model = build(small_clip, moved=0.02, map_norm=norm)
    given = batch()
    terms = model.loss_terms(given)
    text = model.model.text_features(model.names_of(given))
    scores = model.model.scores(model.model.logits(given.image, model.names_of(given)), (56, 56))
    targets = model.model.knowledge_of([load_knowledge().texts(name) for name in ("candle", "pcb1")])
    distances = [
        [(unit(*k) - unit(*s)).norm().item() for s in states]
        for k, states in zip(targets.tolist(), text[:2].tolist(), strict=True)
    ]
    abnormal = scores.log_odds.abnormal.sigmoid().detach()
    found = (model.model.head.join(scores.text, scores.smooth).detach(), abnormal, given.gt_label, given.gt_mask)
    normal = scores.log_odds.normal
    expected = reference.losses_of(*found, distances, None if normal is None else normal.sigmoid().detach())
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, abs=2e-5), name


def test_the_losses_stay_finite_at_the_ends():
    maps = torch.tensor([-200.0, 200.0, 200.0, -200.0]).reshape(1, 1, 2, 2).requires_grad_()
    mask = torch.tensor([0, 1, 0, 1], dtype=torch.uint8).reshape(1, 2, 2)
    scores = torch.tensor([0.0], requires_grad=True)
    terms = KAnoClipLoss()((scores, scores), maps, torch.tensor([1]), mask)
    terms["loss"].backward()
    assert all(term.isfinite() for term in terms.values())
    assert maps.grad.isfinite().all()
    assert scores.grad.isfinite().all()
    assert "loss_kd" not in terms


def test_perfect_maps_cost_nothing_and_wrong_ones_much_however_sure():
    target = batch().gt_mask
    sure = 200 * (2 * target.float() - 1)
    scores = torch.full((3,), 0.5)
    parts = (scores, scores)
    perfect, wrong = (KAnoClipLoss()(parts, maps[None], batch().gt_label, target) for maps in (sure, -sure))
    for name in ("loss_focal", "loss_dice_normal", "loss_dice_abnormal"):
        assert perfect[name] < 1e-3
        assert wrong[name] > 0.6
    stuck = (-sure).requires_grad_()
    KAnoClipLoss()(parts, stuck[None], batch().gt_label, target)["loss"].backward()
    assert (stuck.grad != 0).all()


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (2.0, 3.0, 5.0)])
def test_the_weights_of_the_losses_count(weights):
    parts = (torch.tensor([0.3, 0.6, 0.7]), torch.tensor([0.5, 0.2, 0.9]))
    arguments = (parts, torch.randn(2, 3, 56, 56), batch().gt_label, batch().gt_mask)
    kd, in_image, in_map = weights
    loss = KAnoClipLoss(lambda_kd=kd, lambda_global=in_image, lambda_local=in_map)
    terms = loss(*arguments, torch.tensor([[0.5, 0.9], [0.5, 0.2]]))
    local = terms["loss_focal"] + terms["loss_dice_normal"] + terms["loss_dice_abnormal"]
    assert terms["loss_kd"].item() == pytest.approx(0.2)
    expected = kd * terms["loss_kd"] + in_image * terms["loss_global"] + in_map * local
    torch.testing.assert_close(terms["loss"], expected)
    single = [loss(arguments[0], arguments[1][i : i + 1], *arguments[2:]) for i in (0, 1)]
    torch.testing.assert_close(terms["loss_focal"], single[0]["loss_focal"] + single[1]["loss_focal"])


@pytest.mark.parametrize(
    "changed",
    [
        {"local_loss_on": "per_stage"},
        {"smooth_in_training": False},
        {"map_norm": "minmax"},
        {"map_norm": "minmax", "local_loss_on": "per_stage"},
        {"kd_weighting": "balanced", "kd_margin": 0.3},
        {"score_reduction": "clamp"},
        {"score_reduction": "separate"},
        {"score_reduction": "logits"},
        {"kd_margin": 0.3},
        {"kd_scope": "global", "kd_margin": 0.3},
        {"focal_gamma": 4.0},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_options_of_the_losses_change_them(small_clip, changed):
    ours, other = (build(small_clip, **arguments).loss_terms(batch())["loss"] for arguments in ({}, changed))
    assert (ours - other).abs() > 1e-5


# Knowledge


@torch.no_grad()
def test_classes_are_drawn_to_all_their_texts_and_images_to_their_own(small_clip, base):
    paths = ["/data/visa/candle/Anomaly/3.png", "/data/visa/pcb1/Anomaly/0.png", "/data/visa/candle/Normal/1.png"]
    given = CategoryBatch(image=images(), category=["candle", "pcb1", "candle"], image_path=paths)
    own = ["A candle with a chipped edge.", "A candle with a stain."]
    everything, board = [*own, "A deep dent on the left."], ["A board with a bent pin."]
    for scope, texts, rows in (("class", [everything, board], [0, 1]), ("image", [everything, board, own], [0, 1, 2])):
        model = build(small_clip, knowledge=str(base), kd_scope=scope)
        text = model.model.text_features(model.names_of(given))
        found = model.knowledge_distances(given, text)
        torch.testing.assert_close(found, knowledge_distances(model.model.knowledge_of(texts), text[rows]))
    model = build(small_clip, knowledge=str(base), kd_scope="global")
    targets = model.model.knowledge_of([everything, board]).mean(0)
    states = model.model.text_features(model.names_of(given))[:2].mean(0)
    found = model.knowledge_distances(given, model.model.text_features(model.names_of(given)))
    torch.testing.assert_close(found, knowledge_distances(targets[None], states[None]))


@torch.no_grad()
def test_descriptions_of_a_class_and_of_its_images_count_half_each_where_they_are_balanced(small_clip, base):
    paths = ["/data/visa/candle/Anomaly/3.png", "/data/visa/pcb1/Anomaly/0.png", "/data/visa/candle/Normal/1.png"]
    given = CategoryBatch(image=images(), category=["candle", "pcb1", "candle"], image_path=paths)
    for scope, rows in (("class", [0, 1]), ("image", [0, 1, 2]), ("global", None)):
        model = build(small_clip, knowledge=str(base), kd_scope=scope, kd_weighting="balanced")
        texts = [["A candle with a chipped edge.", "A candle with a stain."], ["A deep dent on the left."]]
        candle, dent, board = model.model.knowledge_of([*texts, ["A board with a bent pin."]])
        targets = torch.stack([(candle + dent) / 2, board, candle])
        text = model.model.text_features(model.names_of(given))
        found = model.knowledge_distances(given, text)
        if rows is None:
            expected = knowledge_distances(targets[:2].mean(0)[None], text[:2].mean(0)[None])
        else:
            expected = knowledge_distances(targets[rows], text[rows])
        torch.testing.assert_close(found, expected)


def test_an_unknown_class_is_drawn_to_what_is_said_of_any_object(small_clip, base, caplog):
    model = build(small_clip, knowledge=str(base))
    given = CategoryBatch(image=images(1), category=["gearbox"])
    with caplog.at_level(logging.WARNING):
        found = model.knowledge_distances(given, model.model.text_features(["gearbox"]))
    target = model.model.knowledge_of([["An object that is broken."]])
    torch.testing.assert_close(found, knowledge_distances(target, model.model.text_features(["gearbox"])))
    assert "gearbox" in caplog.text


def test_prediction_needs_no_knowledge_and_the_checkpoint_names_it(small_clip, base, visa_root, tmp_path):
    data = VisA(visa_root, TRAINED_ON, val_ratio=0.3, num_workers=0)
    model = build(small_clip, knowledge=str(base), epochs=1)
    engine = engine_in(tmp_path)
    engine.fit(model, datamodule=data)
    digest = load_knowledge(base).sha256
    base.unlink()
    saved = torch.load(engine.best_model_path, weights_only=True)
    assert saved["anomalib_zsad"]["knowledge_sha256"] == digest
    loaded = type(model).load_from_checkpoint(engine.best_model_path, pretrained=small_clip).eval()
    assert loaded.knowledge_sha256 == digest
    with torch.no_grad():
        assert torch.equal(loaded.model(images()).pred_score, model.eval().model(images()).pred_score)
    with pytest.raises(FileNotFoundError, match=r"kb\.json: expected a knowledge base"):
        engine_in(tmp_path).fit(loaded, datamodule=data)


def test_a_training_that_goes_on_with_other_knowledge_says_so(small_clip, base, visa_root, tmp_path, caplog):
    data = VisA(visa_root, TRAINED_ON, val_ratio=0.3, num_workers=0)
    first = engine_in(tmp_path)
    first.fit(build(small_clip, knowledge=str(base), epochs=1), datamodule=data)
    base.write_text(base.read_text().replace("bent pin", "burnt chip"))
    again = build(small_clip, knowledge=str(base), epochs=2)
    with caplog.at_level(logging.WARNING, logger="anomalib_zsad"):
        engine_in(tmp_path).train(again, datamodule=data, ckpt_path=first.best_model_path)
    assert caplog.text.count("another knowledge base") == 1
    assert again.knowledge_sha256 == load_knowledge(base).sha256


def test_a_training_starts_afresh_after_one_that_was_interrupted(small_clip, base, visa_root, tmp_path):
    data = VisA(visa_root, TRAINED_ON, val_ratio=0.3, num_workers=0)
    model = build(small_clip, knowledge=str(base), epochs=1)
    seen = []

    def interrupted(*_):
        seen.append(len(model._seen))
        raise FloatingPointError

    model.on_train_batch_end = interrupted
    with pytest.raises(FloatingPointError):
        engine_in(tmp_path).fit(model, datamodule=data)
    base.write_text(base.read_text().replace("bent pin", "burnt chip"))
    with pytest.raises(FloatingPointError):
        engine_in(tmp_path).fit(model, datamodule=data)
    assert seen == [1, 1]
    assert model.knowledge_sha256 == load_knowledge(base).sha256


def test_without_knowledge_driven_prompts_no_base_is_read(small_clip, tmp_path):
    model = build(small_clip, use_knpl=False, knowledge=str(tmp_path / "none.json"))
    assert "loss_kd" not in model.loss_terms(batch())


# Training


def test_prompts_and_adapters_learn_at_rates_of_their_own(small_clip):
    model = build(small_clip)
    prompts, adapters = model.configure_optimizers().param_groups
    assert [each is model.model.prompts.vectors for each in prompts["params"]] == [True]
    assert (prompts["lr"], adapters["lr"], adapters["betas"]) == (1e-3, 5e-4, (0.5, 0.999))
    held = [id(each) for group in (prompts, adapters) for each in group["params"]]
    assert len(held) == len(set(held))
    deep = build(small_clip, deep_prompt_depth=1)
    inner = deep.model.prompts
    assert deep.configure_optimizers().param_groups[0]["params"] == [inner.vectors, inner.deep.tokens]
    fixed = build(small_clip, use_knpl=False).configure_optimizers().param_groups
    assert [group["lr"] for group in fixed] == [5e-4]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"deep_prompt_depth": 1, "bica_ffn": True, "bica_order": "cross_first", "conv_adapter_residual": 1.0},
        {"conv_adapter": "conv_adapter", "map_norm": "minmax", "kd_weighting": "balanced"},
    ],
)
def test_training_lowers_the_loss(small_clip, options):
    model = build(small_clip, moved=0.0, **options)
    optimizer = model.configure_optimizers()
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = model.loss_terms(batch())["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert losses[-1] < 0.9 * losses[0]


def test_what_each_part_does_is_logged(small_clip, visa_root, tmp_path, caplog, monkeypatch):
    model = build(small_clip, moved=0.0, epochs=1)
    engine, steps, of_step = engine_in(tmp_path), [], diagnostics.of_step

    def noted(logits, scores, *rest):
        found = of_step(logits, scores, *rest)
        steps.append((len(scores.text), found["score_text"].item()))
        return found

    monkeypatch.setattr(diagnostics, "of_step", noted)
    with caplog.at_level(logging.INFO, logger="anomalib_zsad"):
        engine.fit(model, datamodule=VisA(visa_root, TRAINED_ON, val_ratio=0.3, num_workers=0, train_batch_size=3))
    assert len({count for count, _ in steps}) == 2  # the last batch is a smaller one
    mean = sum(count * value for count, value in steps) / sum(count for count, _ in steps)
    assert engine.trainer.callback_metrics["train_score_text"].item() == pytest.approx(mean, abs=1e-6)
    logged = {name.removeprefix("train_") for name in engine.trainer.logged_metrics}
    stages = {f"{name}_stage{i}" for name in ("offset", "entropy") for i in range(1, 5)}
    scales = ("text_scale", "patch_scale", "patch_to_text_scale", "text_to_patch_scale")
    assert stages | {"kd_active", "kd_normal", "kd_abnormal", "score_text", "score_map"} <= logged
    assert {f"stage{i}_{name}" for i in range(1, 5) for name in scales} | {
        "auroc_text",
        "auroc_map",
        "auroc_image",
    } <= logged
    entropy = engine.trainer.logged_metrics["train_entropy_stage1"].item()
    assert 0 < entropy <= np.log(16) + 1e-5
    for name in TRAINED_ON:
        assert f"{name}: d(k, a) = " in caplog.text


def test_the_start_of_a_training_is_measured_and_changes_nothing(small_clip, visa_root, tmp_path, monkeypatch):
    def fit():
        model, engine = build(small_clip, moved=0.0, epochs=1), engine_in(tmp_path, limit_val_batches=2)
        data = VisA(visa_root, TRAINED_ON, val_ratio=0.6, num_workers=0, train_batch_size=2, eval_batch_size=3)
        engine.fit(model, datamodule=data)
        return data, torch.cat([each.detach().flatten() for each in model.parameters()]), engine.trainer

    data, learnt, trainer = fit()
    start = build(small_clip, moved=0.0)
    given = [next(loader) for loader in [iter(data.val_dataloader())] for _ in range(2)]
    pictures = [start.pre_processor.transform(each.image, each.gt_mask)[0] for each in given]
    names = [start.names_of(each) for each in given]
    with torch.no_grad():
        scores = torch.cat([start.model(*each).pred_score for each in zip(pictures, names, strict=True)])
    label = torch.cat([each.gt_label for each in given]).bool()
    pairs = (scores[label][:, None] > scores[~label]).float()
    assert trainer.callback_metrics["start_auroc_image"].item() == pytest.approx(pairs.mean().item())

    monkeypatch.setattr(diagnostics, "parts_of_held_out", lambda module: [])
    _, same, trainer = fit()
    assert "start_auroc_image" not in trainer.callback_metrics
    assert torch.equal(same, learnt)
