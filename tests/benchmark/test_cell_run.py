import pandas as pd
import pytest
import torch

from anomalib_zsad.benchmark.cell_run import CellRunner
from anomalib_zsad.benchmark.grid import Benchmark, Entry, Protocol, Spec
from anomalib_zsad.benchmark.run import run_benchmark
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
            "ours twice": Entry("anomalib_zsad.Ensemble", {"weights": [2, 1]}, members=["AF-CLIP", "AF-CLIP"]),
            "mix": Entry("anomalib_zsad.Ensemble", members=["AF-CLIP", "PaDiM"]),
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
    assert set(rows["model"]) == {"AF-CLIP", "PaDiM", "ours twice", "mix"}
    for _, part in rows.groupby(["model", "shots"], dropna=False):
        assert set(part["category"]) == {"bottle", "grid"}
        assert {"image_AUROC", "pixel_AUROC", "pixel_AUPRO"} <= set(part["metric"])
        assert part["value"].between(0, 1).all()
    trained = [path.relative_to(tmp_path).parts for path in tmp_path.rglob("model.ckpt")]
    assert sorted(parts[:2] for parts in trained if "Ensemble" not in parts) == [
        *[("cells", "PaDiM")] * 2,
        ("training", "AF-CLIP"),  # once for both numbers of references and for the ensembles
    ]
    # A model beside itself gives the order that it has alone.
    metrics = rows[rows["shots"].isna() | (rows["shots"] == 0)].pivot_table(
        index=["category", "metric"], columns="model", values="value"
    )
    ranks = metrics[~metrics.index.get_level_values("metric").str.contains("AUPRO_200")]
    assert (ranks["ours twice"] - ranks["AF-CLIP"]).abs().max() < 1e-4  # of pixels that rounding made equal
    assert (ranks["mix"] != ranks["AF-CLIP"]).any()
    ours = rows[rows["model"] == "AF-CLIP"].pivot_table(index=["category", "metric"], columns="shots", values="value")
    assert (ours[0] != ours[1]).any()


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


def test_a_member_without_a_result_is_named(benchmark, tmp_path):
    cell = next(each for each in benchmark.cells() if each.model == "mix")
    with pytest.raises(ValueError, match=r"PaDiM/MVTec/bottle/seed_0 has no result, so its model is no member"):
        CellRunner(benchmark, tmp_path, **QUIET)._member("PaDiM", cell)
