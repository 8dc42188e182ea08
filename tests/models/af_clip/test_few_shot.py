"""AF-CLIP+: memories of normal images, which follow the category."""

import logging
from pathlib import Path

import pytest
import torch
from anomalib import LearningType
from anomalib.data import MVTecAD
from PIL import Image

from anomalib_zsad.data import AllCategories, MVTec, VisA
from anomalib_zsad.models import AFClip
from anomalib_zsad.models.af_clip.torch_model import Logits
from tests.golden.golden_files import assert_near, golden, golden_clip_file
from tests.support.contract import UNSEEN, engine_in, images
from tests.support.small_clip import IMAGE_SIZE
from tests.support.trees import mvtec_tree


def build(clip: Path, **arguments) -> AFClip:
    return AFClip(pretrained=clip, image_size=IMAGE_SIZE, **arguments)


@pytest.fixture(scope="module")
def trained(small_clip, visa_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    engine = engine_in(folder)
    data = VisA(visa_root, ["candle", "pcb1"], val_ratio=0.3, num_workers=0)
    engine.fit(build(small_clip, epochs=1), datamodule=data)
    return Path(engine.best_model_path)


@pytest.fixture
def unseen(mvtec_root):
    return AllCategories(MVTecAD(mvtec_root), UNSEEN, num_workers=0, eval_batch_size=4)


@pytest.fixture
def normal_folder(mvtec_root):
    return mvtec_root / "bottle" / "train" / "good"


def test_memory_matches_the_golden_file(tmp_path):
    expected = golden("afclip")
    model = AFClip(pretrained=golden_clip_file("afclip", tmp_path / "clip.pt"), image_size=84).model
    model.remember(expected["input/reference_images"].split(1))
    model.alpha = 0.0
    with torch.no_grad():
        score, maps = model.join(model.logits(expected["input/image"]))
    assert_near(maps[:, None], expected["expected/fewshot_memory_map_lowres"], 1e-6)
    assert_near(score, expected["expected/fewshot_memory_score"], 1e-6)


def test_blend_matches_the_golden_file(tmp_path):
    expected = golden("afclip")
    model = AFClip(pretrained=golden_clip_file("afclip", tmp_path / "clip.pt"), image_size=84).model
    model.remember(expected["input/reference_images"].split(1))
    zero_shot = (expected["expected/score"], expected["expected/map_lowres"][:, 0])
    image, patches = (torch.stack([1 - each, each], dim=-1).log() for each in zero_shot)
    with torch.no_grad():
        distances = model.recall(model.encoder(expected["input/image"]))
        score, maps = model.join(Logits(image, patches, [], distances))
    bound = 1 + 0.1
    assert_near(score * bound, expected["expected/fewshot_score"], 1e-6)
    assert_near(maps[:, None] * bound, expected["expected/fewshot_map_lowres"], 1e-6)


@torch.no_grad()
def test_a_remembered_image_is_normal_everywhere(small_clip):
    model = build(small_clip, alpha=0.0).model.eval()
    model.alpha = 0.0
    model.remember(images(2).split(1))
    result = model(images(2))
    assert result.pred_score.max() < 1e-5
    assert result.anomaly_map.max() < 1e-5
    assert model(images(3)).pred_score[2] > 1e-3


@torch.no_grad()
def test_more_references_never_raise_a_score(small_clip):
    model = build(small_clip).model.eval()
    model.alpha = 0.0
    scores = []
    for count in (1, 2, 4):
        model.remember(images(8)[:count].split(1))
        scores.append(model(images(8)[4:]).anomaly_map)
    assert (scores[1] <= scores[0] + 1e-6).all()
    assert (scores[2] <= scores[1] + 1e-6).all()


def test_banks_follow_the_category(small_clip, trained, unseen, tmp_path, caplog):
    model = build(small_clip, k_shot=2)
    assert model.learning_type == LearningType.FEW_SHOT
    with caplog.at_level(logging.INFO, logger="anomalib_zsad"):
        engine_in(tmp_path).test(model, datamodule=unseen, ckpt_path=trained)
    assert "2 references of bottle: " in caplog.text
    assert "2 references of grid: " in caplog.text
    assert model.memory_of["category"] == "grid"
    assert all("grid" in path for path in model.memory_of["references"])
    assert "fitted with 0 references and are used with 2" in caplog.text


def test_a_mixed_batch_is_scored_as_its_categories_alone(small_clip, trained, mvtec_root, tmp_path):
    tables = []
    for batch_size in (1, 5):
        data = AllCategories(MVTecAD(mvtec_root), UNSEEN, num_workers=0, eval_batch_size=batch_size)
        model = build(small_clip, k_shot=1)
        engine_in(tmp_path / str(batch_size)).test(model, datamodule=data, ckpt_path=trained)
        tables.append(model.evaluator.table.select_dtypes("number"))
    assert (tables[0] - tables[1]).abs().max().max() < 1e-4


def test_a_stock_datamodule_gives_its_training_images(small_clip, trained, mvtec_root, tmp_path):
    model = build(small_clip, k_shot=2)
    data = MVTecAD(mvtec_root, "bottle", num_workers=0)
    engine_in(tmp_path).test(model, datamodule=data, ckpt_path=trained)
    assert sorted(model.memory_of["references"]) == sorted(map(str, (mvtec_root / "bottle/train/good").iterdir()))


def test_the_target_of_a_datamodule_gives_the_references(small_clip, trained, visa_root, mvtec_root, tmp_path):
    data = VisA(visa_root, ["candle"], target=MVTec(mvtec_root, ["bottle"], num_workers=0), num_workers=0)
    model = build(small_clip, k_shot=1)
    engine_in(tmp_path).test(model, datamodule=data, ckpt_path=trained)
    assert "bottle" in model.memory_of["references"][0]


@pytest.mark.parametrize("run", ["train", "validate", "test", "predict"])
def test_references_are_of_the_dataset_that_is_scored(small_clip, visa_root, mvtec_root, tmp_path, caplog, run):
    targets = (MVTec(mvtec_root, UNSEEN, num_workers=0), MVTecAD(mvtec_root, "bottle", num_workers=0))
    for target in targets:
        data = VisA(visa_root, ["candle", "pcb1"], target=target, val_ratio=0.3, num_workers=0)
        engine_in(tmp_path).fit(build(small_clip, epochs=1), datamodule=data)
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="anomalib_zsad"):
            getattr(engine_in(tmp_path), run)(build(small_clip, k_shot=2), datamodule=data)
        drawn = [record.args for record in caplog.records if "references of" in record.msg]
        assert {category for _, category, _ in drawn} >= {"candle", "pcb1"}  # held out, for the thresholds
        assert ({category for _, category, _ in drawn} >= {"bottle"}) == (run != "validate")
        for _, category, paths in drawn:
            root = visa_root if category in {"candle", "pcb1"} else mvtec_root
            assert all(Path(path).is_relative_to(root / category) for path in paths.split(", "))


def test_categories_of_the_same_name_have_their_own_references(small_clip, mvtec_root, tmp_path):
    other = mvtec_tree(tmp_path / "other", ["bottle"], seed=1)
    data = MVTec(other, target=MVTec(mvtec_root, ["bottle"], num_workers=0), val_ratio=0.3, num_workers=0)
    engine_in(tmp_path).fit(build(small_clip, epochs=1), datamodule=data)
    model = build(small_clip, k_shot=1)
    engine = engine_in(tmp_path)
    engine.validate(model, datamodule=data)
    assert Path(model.memory_of["references"][0]).is_relative_to(other)
    engine.trainer.predict(model, datamodule=data)
    assert Path(model.memory_of["references"][0]).is_relative_to(mvtec_root)


def test_the_draw_follows_the_seed_and_grows_with_k(tmp_path):
    from anomalib_zsad.models.af_clip.references import draw

    paths = [tmp_path / f"{number}.png" for number in range(20)]
    assert draw(paths, 4, 0, "bottle")[:2] == draw(paths, 2, 0, "bottle")
    assert draw(paths, 4, 0, "bottle") != draw(paths, 4, 1, "bottle")
    assert draw(paths, 4, 0, "bottle") != draw(paths, 4, 0, "cable")


def test_the_memory_is_part_of_checkpoint_and_export(small_clip, trained, normal_folder, mvtec_root, tmp_path):
    model = build(small_clip, reference=str(normal_folder))
    engine = engine_in(tmp_path)
    engine.test(model, datamodule=MVTecAD(mvtec_root, "bottle", num_workers=0), ckpt_path=trained)
    expected = model.eval().model(images())
    engine.trainer.save_checkpoint(tmp_path / "few.ckpt")
    loaded = AFClip.load_from_checkpoint(tmp_path / "few.ckpt", pretrained=small_clip).eval()
    assert loaded.learning_type == LearningType.FEW_SHOT
    assert loaded.memory_of == model.memory_of
    assert torch.equal(loaded.model(images()).pred_score, expected.pred_score)
    loaded.save_weights(tmp_path / "few.safetensors")
    from_file = AFClip(pretrained=small_clip, weights=tmp_path / "few.safetensors").eval()
    assert torch.equal(from_file.model(images()).pred_score, expected.pred_score)
    assert from_file.record() == loaded.record()
    exported = engine.export(loaded, "torch", export_root=tmp_path)
    again = torch.load(exported, weights_only=False)["model"].eval()
    assert torch.equal(again.model(images()).anomaly_map, expected.anomaly_map)


def test_a_memory_from_a_checkpoint_is_not_used_for_another_category(small_clip, trained, mvtec_root, tmp_path):
    model = build(small_clip, k_shot=1)
    engine = engine_in(tmp_path)
    engine.test(model, datamodule=MVTecAD(mvtec_root, "bottle", num_workers=0), ckpt_path=trained)
    engine.trainer.save_checkpoint(tmp_path / "few.ckpt")
    other = MVTecAD(mvtec_root, "grid", num_workers=0)
    with pytest.raises(ValueError, match="the memory holds references of bottle, got an image of grid"):
        engine_in(tmp_path).test(build(small_clip), datamodule=other, ckpt_path=tmp_path / "few.ckpt")
    again = build(small_clip, k_shot=1)
    engine_in(tmp_path).test(again, datamodule=other, ckpt_path=tmp_path / "few.ckpt")
    assert again.memory_of["category"] == "grid"


def test_a_memory_of_another_number_of_references_is_not_used(small_clip, trained, normal_folder, mvtec_root, tmp_path):
    engine = engine_in(tmp_path)
    data = MVTecAD(mvtec_root, "bottle", num_workers=0)
    engine.test(build(small_clip, k_shot=1), datamodule=data, ckpt_path=trained)
    engine.trainer.save_checkpoint(few := tmp_path / "few.ckpt")
    path = next(normal_folder.iterdir())
    same = engine_in(tmp_path).predict(build(small_clip, k_shot=1), data_path=path, ckpt_path=few)
    (held,) = engine_in(tmp_path).predict(build(small_clip), data_path=path, ckpt_path=few)
    assert torch.equal(same[0].pred_score, held.pred_score)
    said = "k_shot=2: the memory holds references of k_shot=1, to draw others expected a datamodule"
    with pytest.raises(ValueError, match=said):
        engine_in(tmp_path).predict(build(small_clip, k_shot=2), data_path=path, ckpt_path=few)
    with pytest.raises(ValueError, match=said):
        engine_in(tmp_path).export(build(small_clip, k_shot=2), "torch", export_root=tmp_path, ckpt_path=few)
    assert not list(tmp_path.rglob("model.pt"))


def test_files_are_predicted_with_given_references(small_clip, trained, normal_folder, tmp_path):
    model = build(small_clip, reference=[str(path) for path in normal_folder.iterdir()])
    predictions = engine_in(tmp_path).predict(model, data_path=normal_folder, ckpt_path=trained)
    zero_shot = engine_in(tmp_path).predict(build(small_clip), data_path=normal_folder, ckpt_path=trained)
    assert all(bool((few.pred_score < zero.pred_score).all()) for few, zero in zip(predictions, zero_shot, strict=True))


def test_without_weights_the_memory_alone_decides(small_clip, mvtec_root, tmp_path, caplog):
    model = build(small_clip, k_shot=1)
    with caplog.at_level(logging.INFO, logger="anomalib_zsad"):
        engine_in(tmp_path).test(model, datamodule=MVTecAD(mvtec_root, "bottle", num_workers=0))
    assert model.model.alpha == 0
    assert "alpha = 0" in caplog.text
    assert "holds no trained weights" not in caplog.text


def test_a_coreset_keeps_a_share(small_clip):
    model = build(small_clip).model
    model.remember(images(2).split(1), coreset_ratio=0.25)
    assert model.memory.features.shape[1] == 2 * 16 // 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k_shot": -1}, "k_shot must be an integer in .*, got -1"),
        ({"alpha": -0.1}, "alpha must be a number in .*, got -0.1"),
        ({"coreset_ratio": 1.5}, "coreset_ratio must be a number in .*, got 1.5"),
    ],
)
def test_arguments_out_of_range_are_refused(small_clip, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(small_clip, **arguments)


def test_bad_references_are_told(small_clip, trained, mvtec_root, tmp_path):
    data = MVTecAD(mvtec_root, "bottle", num_workers=0)
    picture = mvtec_root / "bottle" / "test" / "good" / "000.png"
    (tmp_path / "broken").mkdir()
    Image.new("RGB", (30, 30)).save(tmp_path / "broken" / "a.png")
    (tmp_path / "broken" / "b.png").write_bytes((tmp_path / "broken" / "a.png").read_bytes()[:40])
    (tmp_path / "empty").mkdir()
    engine = engine_in(tmp_path)
    with pytest.raises(ValueError, match="k_shot=9: expected at least 9 normal images of bottle, found 2"):
        engine.test(build(small_clip, k_shot=9), datamodule=data, ckpt_path=trained)
    with pytest.raises(OSError, match=r"b\.png"):
        engine_in(tmp_path).predict(build(small_clip, reference=tmp_path / "broken"), data_path=picture)
    with pytest.raises(FileNotFoundError, match=r"reference: expected a folder .* found no .*gone"):
        engine_in(tmp_path).predict(build(small_clip, reference=tmp_path / "gone"), data_path=picture)
    with pytest.raises(ValueError, match=r"Expected images .*empty holds none"):
        engine_in(tmp_path).predict(build(small_clip, reference=tmp_path / "empty"), data_path=picture)
    with pytest.raises(ValueError, match=r"k_shot=1: expected a datamodule .* got neither"):
        engine_in(tmp_path).predict(build(small_clip, k_shot=1), data_path=picture)
