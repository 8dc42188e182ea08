"""Methods over the vision towers of timm: those that can use one, and what the others say."""

from pathlib import Path

import pytest
import torch

from anomalib_zsad import ACDClip, AFClip, AnomalyClip, ClipZeroShot, KAnoClip, WMoEClip
from anomalib_zsad.benchmark.cell_run import CellRunner
from anomalib_zsad.benchmark.config_file import read_benchmark
from anomalib_zsad.benchmark.entries import Entry, Protocol, Spec
from anomalib_zsad.benchmark.grid import Benchmark
from anomalib_zsad.clip.known_weights import publication_of
from anomalib_zsad.clip.named import config_of
from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.models.anomaly_clip.adapter import ObjectPrompts
from anomalib_zsad.models.parts.text_side import words_beside
from tests.support.small_towers import IMAGE_SIZE, TIMM, small_model

EVA, PE, SIGLIP = TIMM
TRAINED = [(AFClip, EVA), (AFClip, PE), (AnomalyClip, EVA), (AnomalyClip, PE), (AnomalyClip, SIGLIP)]


def made(kind, backbone, timm_clips, **options):
    return kind(backbone=backbone, pretrained=timm_clips[backbone], image_size=IMAGE_SIZE, **options)


def batch():
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(2, IMAGE_SIZE, IMAGE_SIZE)
    mask[1, :20, :20] = 1
    images = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    return CategoryBatch(image=images, gt_label=torch.tensor([0, 1]), gt_mask=mask, category=["bottle"] * 2)


@pytest.mark.parametrize(("kind", "backbone"), TRAINED)
@pytest.mark.parametrize("variant", ["released", "paper"])
def test_a_step_of_training_lowers_the_loss(kind, backbone, variant, timm_clips):
    model = made(kind, backbone, timm_clips, variant=variant, lr=1e-3)
    frozen = model.model.encoder.clip.clip.visual.trunk.norm.weight.clone()
    optimizer, losses = model.configure_optimizers(), []
    for _ in range(3):
        optimizer.zero_grad()
        losses.append(model.loss_terms(batch())["loss"])
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters() if parameter.requires_grad)
    assert torch.equal(model.model.encoder.clip.clip.visual.trunk.norm.weight, frozen)


@pytest.mark.parametrize(("kind", "backbone"), [*TRAINED, *((ClipZeroShot, backbone) for backbone in TIMM)])
@torch.no_grad()
def test_scores_are_probabilities_and_independent_of_the_batch(kind, backbone, timm_clips):
    model = made(kind, backbone, timm_clips)
    images = batch().image
    whole, single = model.model(images), model.model(images[1:])
    assert whole.anomaly_map.shape == (2, 1, IMAGE_SIZE, IMAGE_SIZE)
    for both, one in ((whole.pred_score, single.pred_score), (whole.anomaly_map, single.anomaly_map)):
        assert 0 <= both.min() <= both.max() <= 1
        torch.testing.assert_close(both[1:], one, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("backbone", TIMM)
def test_clip_itself_compares_what_open_clip_encodes(backbone, timm_clips):
    model = made(ClipZeroShot, backbone, timm_clips, normal_states=["good {}"], abnormal_states=["bad {}"])
    theirs, images = small_model(backbone), batch().image
    tokens = model.model.encoder.clip.tokenize(["a photo of good object.", "a photo of bad object."])
    image, text = theirs.encode_image(images, normalize=True), theirs.encode_text(tokens, normalize=True)
    expected = (image @ text.T / 0.01).softmax(-1)[:, 1]
    torch.testing.assert_close(model.model(images).pred_score, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_learnt_vectors_stand_in_the_place_of_padding_where_all_positions_are_read(timm_clips):
    clip = made(AnomalyClip, SIGLIP, timm_clips).model.encoder.clip
    tokens = clip.tokenize(["object.", "damaged object."])
    words, end = words_beside(clip, ["object.", "damaged object."], length=4)
    assert words.shape[1] + 4 == clip.context_length
    assert end.tolist() == [clip.context_length - 1] * 2
    assert torch.equal(words, clip.embed_tokens(tokens[:, :-4]))
    prompts = ObjectPrompts(clip, ["object.", "damaged object."], length=4, depth=1)
    prompts.vectors.copy_(clip.embed_tokens(tokens[:, :4]))
    moved = torch.cat([tokens[:, :4], tokens[:, :-4]], dim=1)  # no token precedes the vectors
    expected = torch.nn.functional.normalize(clip.encode_text(clip.embed_tokens(moved), end), dim=-1)
    torch.testing.assert_close(prompts(clip), expected)
    room = clip.room_beside(["object.", "damaged object."])
    assert 0 < room < clip.context_length - 4
    with pytest.raises(ValueError, match=f"prompt_length must lie between 0 and {room} for this backbone"):
        words_beside(clip, ["object.", "damaged object."], length=room + 1)


@pytest.mark.parametrize(
    ("kind", "backbone", "options", "why"),
    [
        (AFClip, SIGLIP, {}, "has no class token: it scores images by .* PE-Core-L-14-336 or EVA02-L-14-336"),
        (AFClip, PE, {"tuning": "lora"}, "has a vision tower of timm: tuning='lora' changes .* ViT-L-14-336"),
        (ACDClip, EVA, {}, "has a vision tower of timm: its adapters .* ViT-L-14-336"),
        (WMoEClip, EVA, {}, "has a vision tower of timm: it starts from .* ViT-L-14-336"),
        (KAnoClip, EVA, {}, "has a vision tower of timm: it reads the V-V stream .* ViT-L-14-336"),
    ],
)
def test_a_method_says_which_backbone_it_cannot_use(kind, backbone, options, why):
    """Before any weights are looked for: there are none here."""
    with pytest.raises(ValueError, match=f"^{kind.__name__} cannot use the backbone '{backbone}', which {why}$"):
        kind(backbone=backbone, pretrained="webli", **options)


def test_the_benchmark_of_backbones_names_what_open_clip_has_and_its_methods_can_use():
    benchmark = read_benchmark(Path(__file__).parents[2] / "configs" / "benchmark" / "backbones.yaml")
    over = {}
    for entry in benchmark.models.values():
        backbone, tag = entry.init_args["backbone"], entry.init_args["pretrained"]
        over.setdefault(entry.model_class, set()).add(backbone)
        if (publication := publication_of(backbone, tag)) is not None:  # older open_clips do not have them all
            assert publication.repo or publication.url
            config_of(backbone)
    assert over[AFClip] == over[AnomalyClip] - {"ViT-L-16-SigLIP2-512"}
    assert len(over[AFClip]) == 4


def test_one_benchmark_runs_methods_over_backbones(timm_clips, mvtec_root, tmp_path):
    """The shape of `configs/benchmark/backbones.yaml`, at the size of a test."""
    models = {
        f"{kind.__name__} over {backbone}": Entry(
            f"anomalib_zsad.{kind.__name__}",
            {"backbone": backbone, "pretrained": str(timm_clips[backbone]), "image_size": IMAGE_SIZE, "epochs": 1},
        )
        for kind, backbone in ((AFClip, PE), (AnomalyClip, SIGLIP))
    }
    data = Spec("anomalib_zsad.MVTec", {"root": str(mvtec_root)})
    benchmark = Benchmark(models, [Protocol(data, {"MVTec": data})], num_workers=0)
    runner = CellRunner(benchmark, tmp_path, accelerator="cpu", enable_progress_bar=False)
    for cell in benchmark.cells():
        table = runner(cell)
        assert table["category"].nunique() > 1
        assert table.select_dtypes("number").notna().any(axis=None)


def test_adapters_are_saved_and_loaded(timm_clips, tmp_path):
    model = made(AnomalyClip, PE, timm_clips)
    model.trained_on = ["VisA/candle"]
    model.save_weights(tmp_path / "adapter.safetensors")
    again = made(AnomalyClip, PE, timm_clips, weights=tmp_path / "adapter.safetensors", seed=5)
    with torch.no_grad():
        assert torch.equal(again.model(batch().image).pred_score, model.model(batch().image).pred_score)
    with pytest.raises(ValueError, match=r"was trained with the backbone .*zsad-small-pe.*zsad-small-eva02"):
        made(AnomalyClip, EVA, timm_clips, weights=tmp_path / "adapter.safetensors")


def test_images_are_normalised_as_the_backbone_was_trained(monkeypatch, timm_clips):
    look = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear")
    from anomalib_zsad.clip.named import Look
    from anomalib_zsad.models.parts import persistence

    monkeypatch.setattr(persistence, "look_of", lambda backbone, tag: Look(*look))
    model = made(AnomalyClip, PE, timm_clips)
    resize, normalise = model.pre_processor.transform.transforms
    assert (normalise.mean, normalise.std, resize.interpolation.value) == ([0.5] * 3, [0.5] * 3, "bilinear")
    image = torch.rand(1, 3, 100, 80)
    torch.testing.assert_close(
        model.pre_processor.export_transform(image), model.pre_processor.transform(image), atol=1e-4, rtol=1e-4
    )
