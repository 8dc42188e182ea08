"""What every method promises; a method's test is a subclass that names the model and its arguments."""

from collections.abc import Callable
from copy import deepcopy
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from anomalib.data import InferenceBatch, MVTecAD
from anomalib.engine import Engine
from anomalib.models import AnomalibModule, list_models
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from anomalib_zsad.data import MVTec, VisA
from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from tests.support.initial_values import Law, check_initial_values
from tests.support.small_clip import IMAGE_SIZE

TRAINED_ON = ["candle", "pcb1"]
UNSEEN = ["bottle", "grid"]


def engine_in(folder: Path, **arguments: Any) -> Engine:
    """An engine that writes into a folder, on the CPU, without bars."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Engine(default_root_dir=folder, accelerator="cpu", devices=1, **{**quiet, **arguments})


def images(count: int = 3, size: tuple[int, int] = (IMAGE_SIZE, IMAGE_SIZE)) -> Tensor:
    """Normalised random images."""
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


def batch() -> CategoryBatch:
    """Three images, the last two anomalous in a quarter of their pixels."""
    mask = torch.zeros(3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    mask[1:, : IMAGE_SIZE // 2, : IMAGE_SIZE // 2] = 1
    label = torch.tensor([0, 1, 1])
    return CategoryBatch(image=images(), gt_label=label, gt_mask=mask, category=["candle", "pcb1", "candle"])


def save_checkpoint(model: Any, path: Path) -> Path:
    """Save a model as its trainer would."""
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    trainer.strategy.connect(model)
    model.trainer = trainer
    trainer.save_checkpoint(path)
    return path


def on_a_gpu(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs one."""
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")(test))


class InterruptAfter(Callback):
    """Ends a training like a kill, after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.left -= 1
        if not self.left:
            raise InterruptedError


class MethodContract:
    """Subclass it, name the model, and every test below runs on it."""

    model_class: ClassVar[type[AnomalibModule]]
    arguments: ClassVar[dict[str, Any]] = {}
    others: ClassVar[dict[str, Any]] = {}
    """Settings that change scores and are not at their defaults."""
    initial_values: ClassVar[dict[str, Law]]
    """By patterns of parameters' names, what the paper or the released code starts from."""
    needed: ClassVar[dict[str, Any]] = {}
    """Arguments without which the small CLIP does not fit."""
    besides: ClassVar[int] = 100_000
    """Bytes that a checkpoint may hold besides what was learnt."""

    def build(self, clip: Path | None, **arguments: Any) -> Any:
        return self.model_class(pretrained=clip, **{"image_size": IMAGE_SIZE, **self.arguments, **arguments})

    def load(self, checkpoint: Path, clip: Path, **arguments: Any) -> Any:
        return self.model_class.load_from_checkpoint(checkpoint, pretrained=str(clip), **arguments)

    @pytest.fixture
    def model(self, small_clip: Path) -> Any:
        return self.build(small_clip)

    @pytest.fixture
    def data(self, visa_root: Path, mvtec_root: Path) -> VisA:
        plumbing = {"num_workers": 0, "train_batch_size": 4, "eval_batch_size": 4}
        target = MVTec(mvtec_root, UNSEEN, **plumbing)
        return VisA(visa_root, TRAINED_ON, target=target, val_ratio=0.3, **plumbing)

    @pytest.fixture(scope="class")
    def trained(self, small_clip: Path, visa_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A checkpoint of two epochs of training."""
        folder = tmp_path_factory.mktemp("trained")
        data = VisA(visa_root, TRAINED_ON, val_ratio=0.3, num_workers=0, train_batch_size=4, eval_batch_size=4)
        engine = engine_in(folder)
        engine.fit(self.build(small_clip, epochs=2), datamodule=data)
        return Path(engine.best_model_path)

    # What anomalib sees

    def test_is_listed_by_anomalib(self, model: Any) -> None:
        assert self.model_class in AnomalibModule.__subclasses__()
        assert model.name in list_models("pascal")

    def test_hyper_parameters_are_plain_data(self, trained: Path) -> None:
        checkpoint = torch.load(trained, weights_only=True)
        assert checkpoint["hyper_parameters"]["epochs"] == 2

    def test_pre_processing_is_that_of_clip(self, model: Any) -> None:
        white = model.pre_processor.transform(torch.ones(1, 3, 100, 80))
        assert white.shape == (1, 3, IMAGE_SIZE, IMAGE_SIZE)
        expected = torch.tensor(
            [(1 - 0.48145466) / 0.26862954, (1 - 0.4578275) / 0.26130258, (1 - 0.40821073) / 0.27577711]
        )
        torch.testing.assert_close(white[0, :, 0, 0], expected)

    def test_training_data_without_masked_anomalies_are_refused_before_the_first_step(
        self, model: Any, mvtec_root: Path, tmp_path: Path
    ) -> None:
        engine, normal = engine_in(tmp_path), MVTecAD(mvtec_root, "bottle", num_workers=0)
        with pytest.raises(ValueError, match=rf"MVTecAD cannot train {self.model_class.__name__}.*--data Auxiliary"):
            engine.fit(model, datamodule=normal)
        assert engine.trainer.global_step == 0

    # Scores

    def test_scores_are_probabilities(self, model: Any) -> None:
        result = model.model.eval()(images())
        assert isinstance(result, InferenceBatch)
        assert result.pred_score.shape == (3,)
        assert result.anomaly_map.shape == (3, 1, IMAGE_SIZE, IMAGE_SIZE)
        for values in (result.pred_score, result.anomaly_map):
            assert values.isfinite().all()
            assert 0 <= values.min() <= values.max() <= 1

    @torch.no_grad()
    def test_an_image_is_scored_alike_in_any_batch(self, model: Any) -> None:
        together = model.model.eval()(images())
        alone = [model.model(image[None]) for image in images()]
        torch.testing.assert_close(
            together.pred_score, torch.cat([each.pred_score for each in alone]), atol=1e-5, rtol=0
        )
        maps = torch.cat([each.anomaly_map for each in alone])
        torch.testing.assert_close(together.anomaly_map, maps, atol=1e-5, rtol=0)

    @torch.no_grad()
    def test_tiles_are_scored_alike_however_many_at_a_time(self, small_clip: Path) -> None:
        plain, tiled = (
            self.build(small_clip, **size).eval() for size in ({}, {"image_size": None, "tile": IMAGE_SIZE})
        )
        tiled.load_state_dict(plain.state_dict())
        large = images(2, (70, 90))
        alone = [tiled(image[None]) for image in large]
        for tiled.model.tile_batch in (1, 5, None):
            together = tiled(large)
            assert together.anomaly_map.shape == (2, 1, 70, 90)
            for row, each in enumerate(alone):
                torch.testing.assert_close(together.pred_score[row], each.pred_score[0], atol=1e-5, rtol=0)
                torch.testing.assert_close(together.anomaly_map[row], each.anomaly_map[0], atol=1e-5, rtol=0)
        resized = torch.nn.functional.interpolate(plain(large).anomaly_map, (70, 90), mode="bilinear")
        assert (resized - together.anomaly_map).abs().max() > 1e-4
        assert torch.equal(plain.model(images()).anomaly_map, tiled.model(images()).anomaly_map)

    @torch.no_grad()
    def test_evaluation_draws_no_random_number(self, model: Any) -> None:
        model.eval()
        results = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            results.append(model.model(images()))
        assert torch.equal(results[0].pred_score, results[1].pred_score)
        assert torch.equal(results[0].anomaly_map, results[1].anomaly_map)

    @torch.no_grad()
    def test_images_need_not_be_square_nor_of_the_configured_size(self, model: Any) -> None:
        result = model.model.eval()(images(2, (42, 70)))
        assert result.anomaly_map.shape == (2, 1, 42, 70)

    def test_an_image_size_off_the_patch_grid_is_refused(self, small_clip: Path) -> None:
        with pytest.raises(ValueError, match=r"image_size must be a multiple of the patch size 14 x 14 .* got 60 x 60"):
            self.build(small_clip, image_size=60)

    def test_choices_that_there_are_not_are_refused(self, small_clip: Path) -> None:
        choices = {"precision", "cache_dtype", "activation", "position_resize", "variant", "tuning"}
        for name in choices & signature(self.model_class).parameters.keys():
            with pytest.raises(ValueError, match=f"{name} must be one of .*, got 'typo'"):
                self.build(small_clip, **{name: "typo"})

    @torch.no_grad()
    def test_bfloat16_scores_are_close(self, small_clip: Path) -> None:
        exact, rough = (
            self.build(small_clip, precision=precision).eval().model(images()) for precision in ("fp32", "bf16")
        )
        assert not torch.equal(exact.pred_score, rough.pred_score)
        torch.testing.assert_close(exact.pred_score, rough.pred_score.float(), atol=1e-2, rtol=0)
        torch.testing.assert_close(exact.anomaly_map, rough.anomaly_map.float(), atol=1e-2, rtol=0)

    @on_a_gpu
    @torch.no_grad()
    def test_a_gpu_scores_as_the_cpu_does(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        on_cpu = model.eval().model(images())
        on_gpu = deepcopy(model).cuda().model(images().cuda())  # other models share the weights of the backbone
        torch.testing.assert_close(on_cpu.pred_score, on_gpu.pred_score.cpu(), atol=1e-3, rtol=0)
        torch.testing.assert_close(on_cpu.anomaly_map, on_gpu.anomaly_map.cpu(), atol=1e-3, rtol=0)

    @on_a_gpu
    @torch.no_grad()
    def test_a_gpu_is_not_waited_for_between_images_and_scores(self, model: Any) -> None:
        there, given = deepcopy(model).eval().cuda(), batch().update(image=images().cuda())
        there.predict_batch(given)  # text is encoded with the first images
        torch.cuda.set_sync_debug_mode("error")
        try:
            there.predict_batch(given)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    @on_a_gpu
    def test_a_gpu_trains_as_the_cpu_does(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        there, given = deepcopy(model).train().cuda(), batch()
        torch.manual_seed(0)  # noise is drawn on the CPU
        expected = model.train().loss_terms(given)
        moved = {name: getattr(given, name).cuda() for name in ("image", "gt_label", "gt_mask")}
        torch.manual_seed(0)
        found = there.loss_terms(given.update(**moved))
        found["loss"].backward()
        for name, value in expected.items():
            torch.testing.assert_close(found[name].cpu(), value, atol=1e-3, rtol=1e-3, msg=name)
        assert all(each.grad.isfinite().all() for each in there.parameters() if each.requires_grad)

    # Learning

    def test_gradients_reach_what_is_trained_and_nothing_else(self, model: Any) -> None:
        model.train()
        model.loss_terms(batch())["loss"].backward()
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert trained == reached
        assert not any(".clip." in name for name in trained)
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.requires_grad)
        assert any(parameter.grad.abs().max() > 0 for parameter in model.parameters() if parameter.requires_grad)

    def test_the_optimizer_holds_what_is_trained(self, model: Any) -> None:
        optimizers = model.configure_optimizers()
        optimizer = optimizers if isinstance(optimizers, torch.optim.Optimizer) else optimizers["optimizer"]
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        assert held == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}

    def test_clip_never_leaves_eval_mode(self, model: Any) -> None:
        model.train()
        assert not any(module.training for module in model.model.encoder.clip.modules())

    def test_initialisation_follows_the_seed(self, small_clip: Path) -> None:
        first, same, other = (
            torch.cat([p.flatten() for p in self.build(small_clip, seed=seed).parameters() if p.requires_grad])
            for seed in (1, 1, 2)
        )
        assert torch.equal(first, same)
        assert not torch.equal(first, other)

    def test_initial_values_are_the_published_ones(self, model: Any) -> None:
        check_initial_values(model, self.initial_values)

    def test_a_lost_loss_stops_training_and_leaves_the_weights(self, model: Any, data: VisA, tmp_path: Path) -> None:
        before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        real = model.loss_terms
        model.loss_terms = lambda batch: {"loss": real(batch)["loss"] * float("nan")}
        with pytest.raises(FloatingPointError, match="expected finite losses, got loss = nan"):
            engine_in(tmp_path).fit(model, datamodule=data)
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if name in before)

    # Checkpoints

    def test_training_leaves_clip_alone_and_changes_the_rest(self, trained: Path, small_clip: Path) -> None:
        untouched = self.build(small_clip)
        model = self.load(trained, small_clip)
        for (name, before), (_, after) in zip(untouched.named_parameters(), model.named_parameters(), strict=True):
            assert torch.equal(before, after) != before.requires_grad, name

    def test_a_checkpoint_holds_what_was_trained(self, trained: Path) -> None:
        checkpoint = torch.load(trained, weights_only=True)
        assert not any("clip" in name for name in checkpoint["state_dict"])
        assert checkpoint["optimizer_states"] == []
        learnt = sum(value.numel() * value.element_size() for value in checkpoint["state_dict"].values())
        assert trained.stat().st_size < learnt + self.besides
        identity = checkpoint["anomalib_zsad"]["backbone"]
        assert {"backbone", "pretrained", "sha256", "fingerprint", "activation", "image_size"} <= identity.keys()
        assert checkpoint["anomalib_zsad"]["trained_on"] == [f"VisA/{name}" for name in TRAINED_ON]

    @torch.no_grad()
    def test_a_loaded_checkpoint_scores_the_same(self, trained: Path, small_clip: Path, tmp_path: Path) -> None:
        model = self.load(trained, small_clip).eval()
        expected = model.model(images())
        model.save_weights(tmp_path / "weights.safetensors")
        again = self.build(small_clip, weights=tmp_path / "weights.safetensors").eval()
        model.save_pretrained(tmp_path / "saved")
        for other in (again, self.model_class.from_pretrained(tmp_path / "saved", pretrained=small_clip)):
            assert torch.equal(other.model(images()).pred_score, expected.pred_score)
            assert torch.equal(other.model(images()).anomaly_map, expected.anomaly_map)
            assert other.trained_on == model.trained_on
            assert torch.equal(other.post_processor.image_threshold, model.post_processor.image_threshold)

    @torch.no_grad()
    def test_settings_travel_with_what_was_learnt(self, small_clip: Path, tmp_path: Path) -> None:
        chosen = {"image_threshold": 0.3, "post_processor": MonotonePostProcessor(pixel_sensitivity=0.7)}
        model = self.build(small_clip, **{**self.others, **chosen}).eval()
        model.trained_on = ["VisA/candle"]
        for parameter in (each for each in model.parameters() if each.requires_grad):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        raw = torch.rand(2, 3, 70, 60, generator=torch.Generator().manual_seed(0))
        expected = model(raw)
        model.save_weights(tmp_path / "w.safetensors")
        save_checkpoint(model, tmp_path / "a.ckpt")
        restored = self.model_class(pretrained=small_clip, **self.needed)
        restored.load_checkpoint(tmp_path / "a.ckpt")
        from_file = self.model_class(pretrained=small_clip, weights=tmp_path / "w.safetensors")
        for again in (restored, from_file, self.load(tmp_path / "a.ckpt", small_clip)):
            assert all(map(torch.equal, again.eval()(raw), expected))
            assert again.record() == model.record()

    def test_another_backbone_is_refused(
        self, trained: Path, small_clip: Path, other_clip: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(
            ValueError, match=r"was trained with the backbone .*clip\.pt.* but this model has .*other\.pt"
        ):
            self.model_class.load_from_checkpoint(trained, pretrained=str(other_clip))
        self.load(trained, small_clip).save_weights(tmp_path / "weights.safetensors")
        with pytest.raises(ValueError, match=r"weights\.safetensors was trained with the backbone"):
            self.build(other_clip, weights=tmp_path / "weights.safetensors")

    def test_a_damaged_or_foreign_checkpoint_is_named(self, trained: Path, small_clip: Path, tmp_path: Path) -> None:
        cut, foreign = tmp_path / "cut.ckpt", tmp_path / "foreign.ckpt"
        cut.write_bytes(trained.read_bytes()[:-1000])
        version = {"pytorch-lightning_version": "2.6.0"}
        torch.save({"state_dict": {}, "hyper_parameters": {"pretrained": str(small_clip)}, **version}, foreign)
        with pytest.raises(ValueError, match=r"cut\.ckpt: expected a checkpoint, but the file is truncated"):
            self.model_class.load_from_checkpoint(cut)
        with pytest.raises(ValueError, match="got one of another model"):
            self.model_class.load_from_checkpoint(foreign, image_size=IMAGE_SIZE, **self.arguments)
        torch.save({"weight": torch.zeros(1)}, tmp_path / "plain.pt")
        with pytest.raises(ValueError, match=r"plain\.pt: expected a checkpoint of Lightning"):
            self.model_class.load_from_checkpoint(tmp_path / "plain.pt")
        with pytest.raises(ValueError, match=r"cut\.ckpt: expected a checkpoint, but the file is truncated"):
            engine_in(tmp_path).predict(self.build(small_clip), dataloaders=[], ckpt_path=cut)
        with pytest.raises(FileNotFoundError, match=r"gone\.ckpt: expected a checkpoint, found no such file"):
            self.model_class.load_from_checkpoint(tmp_path / "gone.ckpt")

    # The engine

    def test_train_then_predict(self, small_clip: Path, data: VisA, tmp_path: Path) -> None:
        model, engine = self.build(small_clip, epochs=1), engine_in(tmp_path)
        (metrics,) = engine.train(model, datamodule=data)
        assert 0 <= metrics["pixel_AUROC"] <= 1
        run = Path(engine.trainer.default_root_dir)
        assert {"metrics.csv", "scores.csv", "images", "weights"} <= {path.name for path in run.iterdir()}
        assert {path.name for path in (run / "images").iterdir()} == set(UNSEEN)
        assert not torch.isnan(model.post_processor.image_threshold)

        picture = next((data.target.source.root / UNSEEN[0] / "test" / "broken").iterdir())
        predictions = engine_in(tmp_path).predict(model, data_path=picture)
        assert 0 <= predictions[0].pred_score.item() <= 1
        folder = engine_in(tmp_path).predict(model, data_path=picture.parent)
        assert [len(batch) for batch in folder] == [len(list(picture.parent.iterdir()))]
        found = [each.score for each in model.detect(picture.parent)]
        assert found == pytest.approx(folder[0].pred_score.tolist(), abs=1e-6)
        with torch.no_grad():
            for parameter in (each for each in model.parameters() if each.requires_grad):
                parameter.fill_(float("nan"))
        with pytest.raises(ValueError, match=rf"{picture.name}: expected scores in \[0, 1\], got pred_score nan"):
            engine_in(tmp_path).predict(model, data_path=picture)

    def test_a_checkpoint_is_tested_and_used_for_prediction(
        self, trained: Path, small_clip: Path, mvtec_root: Path, tmp_path: Path
    ) -> None:
        target = MVTec(mvtec_root, UNSEEN, num_workers=0)
        (metrics,) = engine_in(tmp_path).test(self.build(small_clip), datamodule=target, ckpt_path=trained)
        assert "image_AUROC" in metrics
        model = self.build(small_clip)
        engine = engine_in(tmp_path)
        engine.predict(model, data_path=mvtec_root / UNSEEN[0] / "test" / "good", ckpt_path=trained)
        rows = (Path(engine.trainer.default_root_dir) / "predictions.csv").read_text().splitlines()
        assert rows[0].split(",")[:4] == ["image_path", "score", "threshold", "label"]
        assert len(rows) == 1 + len(list((mvtec_root / UNSEEN[0] / "test" / "good").iterdir()))

    def test_an_untrained_model_does_not_predict(self, model: Any, mvtec_root: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="holds no trained weights"):
            engine_in(tmp_path).predict(model, data_path=mvtec_root / UNSEEN[0] / "test" / "good")

    def test_a_training_that_was_interrupted_ends_as_one_that_was_not(
        self, trained: Path, small_clip: Path, data: VisA, tmp_path: Path
    ) -> None:
        interrupted, resumed = (self.build(small_clip, epochs=2) for _ in range(2))
        killer = InterruptAfter(3)  # in the second of two epochs of two steps
        with pytest.raises(InterruptedError):
            engine_in(tmp_path / "interrupted", callbacks=[killer]).fit(interrupted, datamodule=data)
        (checkpoint,) = (tmp_path / "interrupted").rglob("*.ckpt")
        engine = engine_in(tmp_path / "resumed")
        engine.train(resumed, datamodule=data, ckpt_path=checkpoint)
        expected = torch.load(trained, weights_only=True)["state_dict"]
        written = Path(engine.trainer.default_root_dir, "weights", "lightning", "model.ckpt")
        final = torch.load(written, weights_only=True)["state_dict"]
        for found in (final, resumed.state_dict()):  # the latter is what was tested
            for name, value in expected.items():
                torch.testing.assert_close(found[name], value, atol=0, rtol=0, equal_nan=True, msg=name)


def moved(model: Any, seed: int = 0) -> Any:
    """Move what is trained off its start, as a training does."""
    model.trained_on = ["VisA/candle"]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (each for each in model.parameters() if each.requires_grad):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model
