from pathlib import Path

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule, Padim, list_models
from torchvision.tv_tensors import Mask

from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.models import ACDClip, AFClip, Ensemble
from anomalib_zsad.models.ensemble.raw_images import RawImages
from anomalib_zsad.models.ensemble.torch_model import Raw
from tests.models.ensemble.brightness import Brightness, pictures
from tests.support.contract import engine_in
from tests.support.small_clip import IMAGE_SIZE


def fitted(*models, **arguments) -> Ensemble:
    """An ensemble whose scale is that of some pictures."""
    ensemble = Ensemble(models, **arguments)
    ensemble.model.fit(ensemble.model.sums(ensemble.model.raw_scores(ImageBatch(image=pictures()))))
    return ensemble


def test_is_listed_by_anomalib():
    assert Ensemble in AnomalibModule.__subclasses__()
    assert "Ensemble" in list_models("pascal")


# Scores


def test_a_member_counts_the_same_whatever_its_unit():
    alone, both = fitted(Brightness()), fitted(Brightness(), Brightness(gain=1000.0, offset=-7.0))
    for result, wanted in zip(both.model(pictures()), alone.model(pictures()), strict=True):
        if wanted is not None:
            torch.testing.assert_close(result, wanted, atol=1e-5, rtol=0)


def test_scores_are_the_weighted_mean_of_standardised_ones_in_the_unit_interval():
    ensemble = fitted(Brightness(), Brightness(), weights=[3, 1])
    raw = ensemble.model.raw_scores(ImageBatch(image=pictures()))[0].score
    z = (raw - raw.mean()) / raw.std(correction=0)
    other = Raw(raw.flip(0), None)
    unit = (1 + z / (1 + z.abs())) / 2
    expected = 0.75 * unit + 0.25 * unit.flip(0)
    torch.testing.assert_close(ensemble.model.combine([Raw(raw, None), other]).pred_score, expected)


def test_a_member_far_off_its_validation_scores_leaves_the_order_to_the_others():
    ensemble = fitted(Brightness(), Brightness())
    raw = ensemble.model.raw_scores(ImageBatch(image=pictures()))[0].score
    z = torch.linspace(800, 1200, len(raw)).flip(0)
    score = ensemble.model.combine([Raw(raw, None), Raw(raw.mean() + z * raw.std(), None)]).pred_score
    assert torch.equal(score.argsort(), raw.argsort())


def test_a_member_without_weight_changes_nothing():
    alone, both = fitted(Brightness()), fitted(Brightness(), Brightness(gain=-1.0), weights=[2, 0])
    torch.testing.assert_close(both.model(pictures()).pred_score, alone.model(pictures()).pred_score)


def test_scores_rise_with_each_member_s_and_stay_in_the_unit_interval():
    model = fitted(Brightness(), Brightness(gain=50.0)).model
    base = torch.tensor([0.2, 0.2, 0.2])
    for index in (0, 1):
        raws = [Raw(base, base[:, None, None, None])] * 2
        rising = torch.tensor([-1e3, 0.3, 1e5])
        raws[index] = Raw(rising, rising[:, None, None, None])
        for values in (model.combine(raws).pred_score, model.combine(raws).anomaly_map.flatten()):
            assert (values.diff() > 0).all()
            assert 0 <= values.min() < values.max() <= 1


def test_every_member_pre_processes_the_raw_image_and_maps_come_to_one_size():
    small, large = Brightness(side=4), Brightness(side=16)
    ensemble = fitted(small, large, image_size=(12, 10))
    raws = ensemble.model.raw_scores(ImageBatch(image=pictures()))
    for raw, member in zip(raws, (small, large), strict=True):
        alone = member.model(member.pre_processor.transform(pictures()))
        torch.testing.assert_close(raw.score, alone.pred_score, atol=1e-5, rtol=0)
        assert raw.maps.shape == (6, 1, 12, 10)
    assert Ensemble([small, large]).model.map_size == (16, 16)
    assert ensemble.model(pictures()).anomaly_map.shape == (6, 1, 12, 10)


def test_members_may_lack_maps_or_scores():
    both, maps, scores = Brightness(), Brightness(gives="maps"), Brightness(gives="scores")
    mixed = fitted(both, maps, scores)
    result = mixed.model(pictures())
    torch.testing.assert_close(result.anomaly_map, fitted(both).model(pictures()).anomaly_map, atol=1e-5, rtol=0)
    raws = mixed.model.raw_scores(ImageBatch(image=pictures()))
    torch.testing.assert_close(raws[1].score, raws[1].maps.amax((-3, -2, -1)))
    assert raws[2].maps is None
    assert fitted(scores).model(pictures()).anomaly_map is None


def test_members_read_the_category_of_every_image(small_clip):
    member = ACDClip(pretrained=small_clip, image_size=IMAGE_SIZE, n_groups=2)
    images = pictures(2, (IMAGE_SIZE, IMAGE_SIZE))
    ensemble = Ensemble([member])
    named = ensemble.model.raw_scores(CategoryBatch(image=images, category=["candle", "pcb1"]))[0].score
    (ours,) = ensemble.model.members
    own = CategoryBatch(image=member.pre_processor.transform(images), category=["candle", "pcb1"])
    torch.testing.assert_close(named, ours.predict_batch(own).pred_score, atol=1e-5, rtol=0)
    assert not torch.equal(named, ensemble.model.raw_scores(ImageBatch(image=images))[0].score)


def test_masks_come_to_the_size_of_the_maps_and_images_stay():
    batch = ImageBatch(image=pictures(2), gt_mask=Mask(torch.ones(2, 20, 30, dtype=torch.bool)))
    RawImages((12, 10)).on_test_batch_start(None, None, batch, 0)
    assert batch.gt_mask.shape == (2, 12, 10)
    assert torch.equal(batch.image, pictures(2))


# Errors


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0, 0], [1.0, float("nan")], [1.0, float("inf")]])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match=r"weights must be (2 numbers|a list, each a number) .*, got"):
        Ensemble([Brightness(), Brightness()], weights)


def test_members_are_wanted(data, tmp_path):
    with pytest.raises(ValueError, match="models must name at least one member"):
        Ensemble([])
    with pytest.raises(ValueError, match=r"has no members: expected models \(--model\.models\), or a checkpoint"):
        engine_in(tmp_path).test(Ensemble(), datamodule=data)


def test_a_size_of_maps_is_wanted():
    with pytest.raises(ValueError, match="image_size must be given, since no member's pre-processor tells"):
        Ensemble([Brightness(pre_processor=False)])


def test_an_untrained_member_is_named(small_clip, data, tmp_path):
    ensemble = Ensemble([Brightness(), AFClip(pretrained=small_clip, image_size=IMAGE_SIZE)])
    for run in (engine_in(tmp_path).train, engine_in(tmp_path).test):
        with pytest.raises(ValueError, match="member 2 of the ensemble, AFClip, is untrained: train it first"):
            run(ensemble, datamodule=data)


def test_without_a_scale_there_are_no_scores(data, mvtec_root, tmp_path):
    ensemble = Ensemble([Brightness()])
    picture = next((mvtec_root / "bottle" / "test" / "broken").iterdir())
    for run in (
        lambda: engine_in(tmp_path).test(ensemble, datamodule=data),
        lambda: engine_in(tmp_path).predict(ensemble, data_path=picture),
        lambda: ensemble.detect(picture),
        lambda: ensemble.to_torch(tmp_path),
    ):
        with pytest.raises(
            ValueError, match="does not know the scale of its members' scores: take it from the validation"
        ):
            run()


def test_scores_that_are_no_numbers_are_named(data, tmp_path):
    with pytest.raises(ValueError, match="png: expected finite scores of Brightness, got pred_score"):
        engine_in(tmp_path).validate(Ensemble([Brightness(gain=float("nan"))]), datamodule=data)


def test_an_adapter_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got an ensemble: its checkpoint holds all of it"):
        fitted(Brightness()).save_weights(tmp_path / "a.safetensors")


# The engine


@pytest.fixture(scope="module")
def trained(af_clip: Path, padim: Path, mvtec_root: Path, small_clip: Path, tmp_path_factory: pytest.TempPathFactory):
    """An ensemble of both, what testing it gave, and its checkpoint."""
    from tests.models.ensemble.conftest import bottles

    engine = engine_in(tmp_path_factory.mktemp("ensemble"))
    ensemble = Ensemble([af_clip, Padim.load_from_checkpoint(padim)], weights=[1, 2], pretrained=small_clip)
    (metrics,) = engine.train(ensemble, datamodule=bottles(mvtec_root))
    return ensemble, metrics, Path(engine.best_model_path)


def test_the_scale_is_taken_from_the_validation_images_and_thresholds_from_the_result(trained, data):
    ensemble, metrics, _ = trained
    assert {"image_AUROC", "pixel_AUROC", "pixel_AUPRO"} <= metrics.keys()
    data.prepare_data()
    data.setup("fit")
    (batch, *rest) = list(data.val_dataloader())
    batches = [batch, *rest]
    raws = [ensemble.model.raw_scores(batch) for batch in batches]
    for index in (0, 1):
        scores = torch.cat([raw[index].score for raw in raws])
        torch.testing.assert_close(ensemble.model.image_scale.mean[index], scores.mean(), atol=1e-4, rtol=1e-4)
        pixels = torch.cat([raw[index].maps for raw in raws])
        torch.testing.assert_close(ensemble.model.pixel_scale.deviation[index], pixels.std(), atol=1e-4, rtol=1e-3)
    scores = torch.cat([ensemble.model.combine(raw).pred_score for raw in raws])
    threshold = ensemble.post_processor.image_threshold
    assert ((scores - threshold).abs() < 1e-5).any()


def test_members_are_not_trained_further(trained, af_clip, small_clip):
    before = AFClip.load_from_checkpoint(af_clip, pretrained=small_clip).state_dict()
    after = trained[0].model.members[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in after)
    assert trained[0].trained_on == ["VisA/candle"]


@torch.no_grad()
def test_a_checkpoint_holds_all_but_the_backbone(trained, small_clip):
    ensemble, _, path = trained
    content = torch.load(path, weights_only=True)
    assert not any("clip." in name for name in content["state_dict"])
    again = Ensemble.load_from_checkpoint(path, pretrained=small_clip)
    images = pictures(3, (100, 80))
    expected, got = ensemble.eval()(images), again.eval()(images)
    assert torch.equal(got.pred_score, expected.pred_score)
    assert torch.equal(got.anomaly_map, expected.anomaly_map)
    assert torch.equal(got.pred_label, expected.pred_label)
    assert again.model.weights == [1, 2]
    assert Ensemble.load_from_checkpoint(path, pretrained=small_clip, weights=[1, 0]).model.weights == [1, 0]


def test_what_is_given_counts_instead_of_the_checkpoint_and_the_rest_is_taken_over(trained, af_clip, padim, small_clip):
    given = Ensemble([af_clip, Padim.load_from_checkpoint(padim)], image_threshold=0.4, pretrained=small_clip)
    given.load_checkpoint(trained[2])
    assert given.model.weights == [1, 2]
    assert given.post_processor.image_threshold == torch.tensor(0.4)
    assert torch.equal(given.post_processor.pixel_threshold, trained[0].post_processor.pixel_threshold)
    with pytest.raises(ValueError, match=r"read only if you name it: pass --model\.pretrained"):
        Ensemble().load_checkpoint(trained[2])


@torch.no_grad()
def test_an_image_is_scored_alike_in_any_batch(trained):
    model, images = trained[0].model, pictures(3, (50, 70))
    together, alone = model(images), [model(image[None]) for image in images]
    scores, maps = (torch.cat([each[field] for each in alone]) for field in (0, 2))
    torch.testing.assert_close(together.pred_score, scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(together.anomaly_map, maps, atol=1e-4, rtol=0)


def test_a_member_with_references_gets_those_of_the_data_and_keeps_them(af_clip, data, small_clip, tmp_path):
    engine = engine_in(tmp_path)
    engine.fit(Ensemble([AFClip.load_from_checkpoint(af_clip, pretrained=small_clip, k_shot=1)]), datamodule=data)
    (member,) = Ensemble.load_from_checkpoint(engine.best_model_path, pretrained=small_clip).model.members
    assert member.memory_of["category"] == "bottle"
    assert "bottle/train/good" in member.memory_of["references"][0]
    assert not member.model.memory.is_empty
    assert member.model.alpha == 0.1


def test_a_checkpoint_is_enough_to_test_and_to_predict(trained, data, mvtec_root, small_clip, tmp_path):
    _, metrics, path = trained
    (again,) = engine_in(tmp_path).test(Ensemble(pretrained=small_clip), datamodule=data, ckpt_path=path)
    assert again == pytest.approx(metrics)
    picture = next((mvtec_root / "bottle" / "test" / "broken").iterdir())
    model = Ensemble(pretrained=small_clip)
    (prediction,) = engine_in(tmp_path).predict(model, data_path=picture, ckpt_path=path)
    assert 0 < prediction.pred_score.item() < 1
    assert prediction.anomaly_map.shape[-2:] == model.model.map_size == (64, 56)
    assert prediction.pred_label is not None
    found = model.detect([picture, picture])
    assert [each.score for each in found] == pytest.approx([prediction.pred_score.item()] * 2, abs=1e-6)
    assert found[0].anomaly_map.shape == (32, 32)


def test_the_command_line_needs_no_more_than_the_checkpoint(trained, mvtec_root, small_clip, tmp_path):
    from anomalib.cli.cli import AnomalibCLI

    data = [f"--data.root={mvtec_root}", "--data.categories=[bottle]", "--data.num_workers=0"]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", f"--default_root_dir={tmp_path}"]
    model = ["--model=anomalib_zsad.Ensemble", f"--model.pretrained={small_clip}", f"--ckpt_path={trained[2]}"]
    command = AnomalibCLI(args=["test", *model, "--data=anomalib_zsad.MVTec", *data, *quiet])
    assert len(command.model.model.members) == 2
    rows = next(tmp_path.rglob("metrics.csv")).read_text().splitlines()
    assert rows[1].startswith("bottle,7,")


def test_a_checkpoint_of_another_model_is_named(trained, af_clip, data, tmp_path):
    with pytest.raises(ValueError, match="expected a checkpoint of Ensemble, got one of AFClip"):
        Ensemble.load_from_checkpoint(af_clip)
    with pytest.raises(
        ValueError, match="expected a checkpoint of an ensemble of Brightness, got one of AFClip, Padim"
    ):
        engine_in(tmp_path).test(Ensemble([Brightness()]), datamodule=data, ckpt_path=trained[2])


def test_members_on_another_backbone_are_refused(trained, other_clip, data, tmp_path):
    ours = AFClip(pretrained=other_clip, image_size=IMAGE_SIZE, feature_layers=[4], scales=[1])
    members = [ours, Padim(layers=["layer1"], pre_trained=False, n_features=4)]
    with pytest.raises(ValueError, match=r"was trained with the backbone .*clip\.pt.* but this model has .*other\.pt"):
        engine_in(tmp_path).test(Ensemble(members), datamodule=data, ckpt_path=trained[2])
