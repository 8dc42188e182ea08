import re

import pandas as pd
import pytest
import torch

from anomalib_zsad.benchmark.cell_run import CellRunner
from anomalib_zsad.benchmark.grid import Benchmark, Entry, Protocol, Spec
from anomalib_zsad.benchmark.run import run_benchmark
from anomalib_zsad.evaluation.case_files import read_cases
from anomalib_zsad.evaluation.cases import KINDS
from tests.small_clip import IMAGE_SIZE

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
PADIM = {"backbone": "resnet18", "layers": ["layer1"], "pre_trained": False, "n_features": 8}


@pytest.fixture
def benchmark(small_clip, visa_root, mvtec_root):
    ours = {"pretrained": str(small_clip), "image_size": IMAGE_SIZE, "epochs": 1}
    return Benchmark(
        models={
            "AF-CLIP": Entry("anomalib_zsad.AFClip", ours, [0, 1]),
            "PaDiM": Entry("anomalib.models.Padim", PADIM),
        },
        protocols=[
            Protocol(
                Spec("anomalib_zsad.VisA", {"root": str(visa_root), "categories": ["candle"]}),
                {"MVTec": Spec("anomalib_zsad.MVTec", {"root": str(mvtec_root), "categories": ["bottle", "grid"]})},
            )
        ],
        num_workers=0,
    )


@pytest.mark.slow
def test_a_grid_of_our_model_and_one_of_anomalib(benchmark, tmp_path):
    assert run_benchmark(benchmark, tmp_path, **QUIET)[1] == {}
    rows = pd.read_csv(tmp_path / "results.csv")
    assert set(rows["model"]) == {"AF-CLIP", "PaDiM"}
    for _, part in rows.groupby(["model", "shots"], dropna=False):
        assert set(part["category"]) == {"bottle", "grid"}
        assert {"image_AUROC", "pixel_AUROC", "pixel_AUPRO"} <= set(part["metric"])
        assert part["value"].between(0, 1).all()
    assert len(list(tmp_path.rglob("model.ckpt"))) == 1 + 2  # ours once for both numbers of references
    ours = rows[rows["model"] == "AF-CLIP"].pivot_table(index=["category", "metric"], columns="shots", values="value")
    assert (ours[0] != ours[1]).any()
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(<(.*?)>\)", text)
    assert {path for path in linked if path.startswith("pictures/")} == {
        "pictures/MVTec.png",
        "pictures/AF-CLIP/MVTec/0_shot/seed_0.png",
        "pictures/AF-CLIP/MVTec/1_shot/seed_0.png",
        "pictures/PaDiM/MVTec/seed_0.png",
    }
    assert all((tmp_path / path).is_file() for path in linked)
    kept = [read_cases(path) for path in tmp_path.rglob("cases.npz")]
    assert len(kept) == 2 + 2
    assert all(case.score <= 1 for cases in kept for kind in KINDS for case in cases[kind])
    assert all(cases["best"] and cases["false alarms"] for cases in kept)


def test_a_training_that_has_ended_is_not_repeated(benchmark, tmp_path):
    cells = list(benchmark.cells())
    runner = CellRunner(benchmark, tmp_path, **QUIET)
    first = runner(cells[0])
    (checkpoint,) = tmp_path.rglob("model.ckpt")
    written = checkpoint.stat().st_mtime_ns
    state = torch.random.get_rng_state()
    second = CellRunner(benchmark, tmp_path, **QUIET)(cells[0])
    torch.random.set_rng_state(state)
    assert checkpoint.stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(first, second)
