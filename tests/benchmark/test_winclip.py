import open_clip
import pytest
import torch
from anomalib.models.image.winclip import torch_model
from torchvision.transforms import Compose

from anomalib_zsad.benchmark.cell_run import CellRunner
from anomalib_zsad.benchmark.entries import Entry, Protocol, Spec
from anomalib_zsad.benchmark.grid import Benchmark, Cell, build_model
from tests.support.small_clip import ARCHITECTURE

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
WINCLIP = Entry("anomalib.models.WinClip", shots=[1])
SIZE = 240
"""anomalib's WinCLIP takes no other."""


@pytest.fixture(autouse=True)
def small_winclip(monkeypatch):
    """WinCLIP over a small CLIP with random weights, of 4 x 4 patches."""
    vision = {"image_size": SIZE, "layers": 2, "width": 64, "patch_size": SIZE // 4}

    def create(*_, **__):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return open_clip.CLIP(**{**ARCHITECTURE, "vision_cfg": vision}).eval(), None, Compose([])

    monkeypatch.setattr(torch_model.open_clip, "create_model_and_transforms", create)


@torch.no_grad()
def test_a_window_is_embedded_by_its_own_patches_alone():
    winclip = build_model(WINCLIP, Cell("WinCLIP", "VisA", "candle", 1, 0), visualizer=False).model
    pictures = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    together = winclip.encode_image(pictures)[1]
    for one, both in zip(winclip.encode_image(pictures[:1])[1], together, strict=True):
        torch.testing.assert_close(both[:1], one, atol=1e-5, rtol=0)

    vision = winclip.clip.visual
    tokens = []
    batch_first = getattr(vision.transformer, "batch_first", False)
    hook = vision.patch_dropout.register_forward_hook(lambda _, given, __: tokens.append(given[0]))
    vision(pictures)
    hook.remove()
    for masks, embedded in zip(winclip.masks, together, strict=True):
        for number, mask in enumerate(masks.T):
            window = vision.ln_pre(tokens[0][:, [0, *(mask + 1).tolist()]])
            seen = vision.transformer(window if batch_first else window.transpose(0, 1))
            first = seen[:, 0] if batch_first else seen[0]
            expected = vision.ln_post(first) @ vision.proj
            torch.testing.assert_close(embedded[:, number], expected, atol=1e-5, rtol=0)


def test_the_references_of_a_cell_are_those_of_its_seed(tmp_path):
    drawn = {"root": None, "categories": ["tile"], "test_good": 1, "test_defective": 1, "image_size": 64}
    target = Spec("anomalib_zsad.Synthetic", drawn)
    benchmark = Benchmark({"WinCLIP": WINCLIP}, [Protocol(Spec("a"), {"Synthetic": target})], [0, 1], num_workers=0)
    references = []
    for before, seed in enumerate((0, 0, 1)):
        torch.manual_seed(before)
        runner = CellRunner(benchmark, tmp_path / str(before), **QUIET)
        table = runner(Cell("WinCLIP", "Synthetic", "tile", 1, seed))
        assert table["image_AUROC"].notna().all()
        assert runner._last_model.class_name == "tile"
        references.append(runner._last_model.model.reference_images)
    assert torch.equal(references[0], references[1])
    assert not torch.equal(references[0], references[2])
