import csv
import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageFont
from torch.nn import functional as F

from anomalib_zsad.cli import main
from anomalib_zsad.data import VisA
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.knowledge import KnowledgeBase, load_knowledge
from anomalib_zsad.models.kano_clip import KAnoClip
from anomalib_zsad.models.kano_clip.explanation import explain
from anomalib_zsad.models.kano_clip.explanation_report import (
    closest_to_prompt,
    draw_explanation,
    save_explanation,
    stem_for,
)
from tests.knowledge.test_base import a_base, written
from tests.models.kano_clip.test_contract import SMALL
from tests.support.contract import engine_in
from tests.support.small_clip import IMAGE_SIZE


@pytest.fixture(scope="module")
def trained(small_clip, visa_root, tmp_path_factory):
    data = VisA(visa_root, ["candle"], val_ratio=0.3, num_workers=0, train_batch_size=4)
    engine = engine_in(tmp_path_factory.mktemp("trained"))
    engine.fit(KAnoClip(pretrained=small_clip, image_size=IMAGE_SIZE, epochs=1, **SMALL), datamodule=data)
    return engine.best_model_path


@pytest.fixture(scope="module")
def model(trained, small_clip):
    return KAnoClip.load_from_checkpoint(trained, pretrained=small_clip).eval()


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """28 x 84 pixels: the cells of the 4 x 4 patches are 7 x 21."""
    path = tmp_path_factory.mktemp("pictures") / "candle.png"
    pixels = torch.randint(0, 255, (84, 28, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(path)
    return path


def encode(model, texts):
    """Each text alone, all 77 positions."""
    clip = model.model.encoder.clip
    tokens = clip.tokenize(texts)
    rows = [clip.encode_text(clip.embed_tokens(row[None]), row.argmax()[None])[0] for row in tokens]
    return F.normalize(torch.stack(rows), dim=-1)


@torch.no_grad()
def test_cosines_are_those_of_the_model(model, picture):
    found = explain(model, picture, load_knowledge(), "candle", n_patches=3)
    texts = load_knowledge().texts("candle")
    assert {match.text for match in found.matches} == set(texts)
    images = model.pre_processor.transform(read_image(picture)[None])
    prompts = F.normalize(model.model.text_features(["candle"])[0], dim=-1)
    encoded = encode(model, texts)
    logits = model.model.logits(images, ["candle"])
    probabilities = logits.patches[0].sum(0).softmax(-1)[..., 1].flatten()
    chosen = probabilities.topk(3).indices
    stages = [F.normalize(stage[0, 1:], dim=-1) for stage in model.model.encoder(images).tokens[:-1]]
    close = sum(stage @ encoded.T for stage in stages) / len(stages)
    for match in found.matches:
        row = texts.index(match.text)
        assert match.abnormal == pytest.approx(float(prompts[1] @ encoded[row]), abs=1e-5)
        assert match.normal == pytest.approx(float(prompts[0] @ encoded[row]), abs=1e-5)
        assert match.patches == pytest.approx(float(close[chosen, row].mean()), abs=1e-5)
        assert match.above_rest == pytest.approx(float(close[chosen, row].mean() - close[:, row].mean()), abs=1e-5)
    assert [patch.row * 4 + patch.column for patch in found.patches] == chosen.tolist()
    assert [patch.text for patch in found.patches] == [texts[i] for i in close[chosen].argmax(1)]
    assert found.score == pytest.approx(float(model.model(images, ["candle"]).pred_score), abs=1e-6)


def test_order_of_the_descriptions(model, picture):
    found = explain(model, picture, load_knowledge(), "candle")
    near = [match.patches for match in found.matches]
    assert near == sorted(near, reverse=True)
    told = [match.abnormal for match in closest_to_prompt(found)]
    assert told == sorted(told, reverse=True)
    assert [patch.probability for patch in found.patches] == sorted(
        (p.probability for p in found.patches), reverse=True
    )


def test_patches_lie_where_they_are_on_the_image(model, picture):
    found = explain(model, picture, load_knowledge(), "candle", n_patches=16)
    assert len({(patch.row, patch.column) for patch in found.patches}) == 16
    for patch in found.patches:
        left, top = patch.column * 7, patch.row * 21
        assert patch.box == (left, top, left + 7, top + 21)
    assert sum(match.above_rest for match in found.matches) == pytest.approx(0, abs=1e-5)


def test_descriptions_are_those_of_the_class(model, picture, tmp_path):
    def owners(base, *names, **more):
        return {match.of for match in explain(model, picture, base, *names, **more).matches}

    shipped = load_knowledge()
    assert owners(shipped, "candle") == {"candle"}
    assert owners(shipped, "01", "BTech") == {"btad_01"}
    assert owners(shipped, "teapot") == owners(shipped) == {"object"}
    assert owners(shipped, "candle", all_classes=True) == set(shipped.classes)
    own = load_knowledge(written(tmp_path / "kb.json", a_base()))
    found = explain(model, picture, own, "cup")
    assert {match.text for match in found.matches} == set(own.texts("cup"))


def test_a_class_that_the_base_does_not_know_is_told_once(model, picture, caplog):
    base = KnowledgeBase(load_knowledge().content)
    for names in (["metalnut"], ["metalnut"], ["02", "MVTec"], ["metal_nut"], ["01", "BTech"], [None]):
        explain(model, picture, base, *names)
    explain(model, picture, base, "teapot", all_classes=True)
    assert caplog.messages == [
        f"The knowledge base knows no class {name!r}: the texts about any object are used."
        for name in ("metalnut", "02")
    ]


def test_the_class_changes_prompts_and_score(model, picture):
    first, second = (explain(model, picture, load_knowledge(), name, all_classes=True) for name in ("candle", "screw"))
    assert first.score != second.score
    told = [{match.text: match.abnormal for match in found.matches} for found in (first, second)]
    assert told[0].keys() == told[1].keys()
    assert told[0] != told[1]


def test_a_learnt_projection_is_used(small_clip, picture):
    choices = {**SMALL["choices"], "patch_projection": "linear"}
    model = KAnoClip(pretrained=small_clip, image_size=IMAGE_SIZE, choices=choices).eval()
    before = explain(model, picture, load_knowledge(), "candle").matches
    with torch.no_grad():
        for each in model.model.projections:
            each.weight.neg_()
    after = {match.text: match for match in explain(model, picture, load_knowledge(), "candle").matches}
    assert any(abs(match.patches - after[match.text].patches) > 1e-3 for match in before)


@pytest.mark.parametrize("switch", ["use_knpl", "use_vv", "use_bicmci", "use_conv_adapter"])
def test_parts_that_are_switched_off_are_not_missed(small_clip, picture, switch):
    model = KAnoClip(pretrained=small_clip, image_size=IMAGE_SIZE, **{**SMALL, switch: False}).eval()
    found = explain(model, picture, load_knowledge(), "candle")
    assert len(found.matches) == 5
    assert all(-1 <= match.abnormal <= 1 and -1 <= match.patches <= 1 for match in found.matches)
    images = model.pre_processor.transform(read_image(picture)[None])
    assert found.score == pytest.approx(float(model.model(images, ["candle"]).pred_score), abs=1e-6)


def test_no_patches(model, picture):
    with pytest.raises(ValueError, match="patches must be 1 or more, got 0"):
        explain(model, picture, load_knowledge(), n_patches=0)


def test_files(model, picture, tmp_path):
    found = explain(model, picture, load_knowledge(), "candle")
    paths = save_explanation(found, tmp_path / "new", "x", 2)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["x.csv", "x.json", "x.png"]
    with paths[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [match.text for match in found.matches]
    assert float(rows[0]["patches"]) == found.matches[0].patches
    assert json.loads(paths[1].read_text()) == json.loads(json.dumps(found.as_data()))


def test_the_picture_shows_image_map_marks_and_texts(model, picture):
    found = explain(model, picture, load_knowledge(), "candle", n_patches=2)
    page = draw_explanation(found, 3)
    assert page.width == 2 * 384 + 36
    marks = [(x, y) for x in range(page.width) for y in range(30, 414) if page.getpixel((x, y)) == (255, 220, 0)]
    columns = {x < 140 for x, _ in marks}
    assert columns == {True, False}  # on the image and on the map
    box = found.patches[0].box
    scale = 384 / 84
    assert (round(12 + box[0] * scale), round(30 + box[1] * scale)) in marks
    below = page.crop((0, 420, page.width, page.height)).convert("L")
    assert below.getextrema()[0] < 100
    assert draw_explanation(found, 5).height > page.height


@pytest.mark.parametrize("name", ["candle", "candle of a long name", "candle " * 20])
def test_the_map_of_a_portrait_stands_beside_it(model, picture, name):
    page = draw_explanation(explain(model, picture, load_knowledge(), name, n_patches=16), 3)
    row = [page.getpixel((x, 30 + 384 // 2)) != (255, 255, 255) for x in range(page.width)]
    starts = [x for x in range(1, page.width) if row[x] and not any(row[x - 12 : x])]
    title = math.ceil(ImageFont.load_default(16).getlength(f"{name}: score 0.500"))
    assert starts[0] == 12
    assert abs(starts[1] - (12 + min(384, max(128, title)) + 12)) <= 3
    assert sum(row) - 2 * 128 in range(3)  # nothing else; a mark's line may lie on the edge


def test_the_command(trained, small_clip, picture, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    words = [
        "explain",
        str(picture),
        "--pretrained",
        str(small_clip),
        "--ckpt_path",
        str(trained),
        "--class_name",
        "candle",
        "--out",
        str(tmp_path),
    ]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "candle: score 0." in told
    assert all(text in told for text in load_knowledge().texts("candle"))
    (written,) = tmp_path.glob("*_candle_explained_*.json")
    assert str(written.with_suffix(".png")) in told
    assert json.loads(written.read_text())["class_name"] == "candle"


def test_pictures_are_not_overwritten_nor_explanations_of_their_namesakes(
    trained, small_clip, picture, tmp_path, capsys
):
    kept = picture.read_bytes()
    folders = [tmp_path / category / "test" / "crack" for category in ("bottle", "cable")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "000.png").write_bytes(kept)
    for out in (folders[0], tmp_path, tmp_path):  # the image's own folder, and one for all, twice
        for folder in folders:
            words = [
                "explain",
                str(folder / "000.png"),
                "--pretrained",
                str(small_clip),
                "--ckpt_path",
                str(trained),
                "--out",
                str(out),
            ]
            assert main(words) == 0
    assert [(folder / "000.png").read_bytes() for folder in folders] == [kept, kept]
    assert len(list(tmp_path.glob("crack_000_explained_*.png"))) == 2
    assert stem_for(folders[0] / "000.png") != stem_for(folders[0] / "000.jpg")
    assert len(f"{stem_for(Path('f' * 250, 'x' * 250 + '.png'))}.json") <= 255


def test_errors_of_the_command_are_one_line(trained, small_clip, picture, tmp_path, capsys):
    (tmp_path / "no.ckpt").write_bytes(b"nothing")
    for words in (
        [str(tmp_path / "gone.png"), "--pretrained", str(small_clip), "--ckpt_path", str(trained)],
        [str(picture), "--ckpt_path", str(tmp_path / "no.ckpt")],
        [
            str(picture),
            "--pretrained",
            str(small_clip),
            "--ckpt_path",
            str(trained),
            "--knowledge",
            str(tmp_path / "no.ckpt"),
        ],
    ):
        assert main(["explain", *words, "--out", str(tmp_path)]) == 2
        told = capsys.readouterr().err.splitlines()
        assert told[-1].startswith("anomalib-zsad: ")
        assert str(tmp_path) in told[-1]


def test_another_knowledge_base_than_that_of_the_training(trained, small_clip, picture, tmp_path, capsys):
    path = written(tmp_path / "kb.json", a_base())
    words = [
        "explain",
        str(picture),
        "--pretrained",
        str(small_clip),
        "--ckpt_path",
        str(trained),
        "--class_name",
        "cup",
        "--out",
        str(tmp_path),
    ]
    assert main([*words, "--knowledge", str(path)]) == 0
    assert "chip" in capsys.readouterr().out


def test_a_base_that_changed_since_the_training_is_told(small_clip, picture, tmp_path, visa_root, capsys):
    path = written(tmp_path / "kb.json", a_base())
    small = {"pretrained": small_clip, "image_size": IMAGE_SIZE, "epochs": 1, "knowledge": str(path), **SMALL}
    engine = engine_in(tmp_path)
    engine.fit(KAnoClip(**small), datamodule=VisA(visa_root, ["candle"], num_workers=0))
    words = [
        "explain",
        str(picture),
        "--pretrained",
        str(small_clip),
        "--ckpt_path",
        str(engine.best_model_path),
        "--out",
        str(tmp_path),
    ]
    assert main(words) == 0
    assert "has changed" not in capsys.readouterr().err
    written(path, a_base(dataset="others"))
    assert main(words) == 0
    assert "note: the knowledge base has changed since the training" in capsys.readouterr().err


def test_of_tiled_images_the_whole_picture_is_explained(small_clip, trained, picture):
    plain, tiled = (
        KAnoClip.load_from_checkpoint(trained, pretrained=small_clip, **sizes).eval()
        for sizes in ({"image_size": 28}, {"tile": 28})
    )
    expected, found = (explain(each, picture, load_knowledge(), "candle", n_patches=2) for each in (plain, tiled))
    assert found.anomaly_map.shape == (28, 28)
    torch.testing.assert_close(found.anomaly_map, expected.anomaly_map, atol=1e-4, rtol=0)
    assert [patch.box for patch in found.patches] == [patch.box for patch in expected.patches]
