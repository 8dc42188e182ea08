import re
from dataclasses import replace

import pandas as pd
import pytest
import torch
from anomalib.data import AnomalibDataModule
from anomalib.engine import Engine

from anomalib_zsad.benchmark.case_files import read_cases
from anomalib_zsad.benchmark.cases import KINDS
from anomalib_zsad.benchmark.cell_run import CellRunner
from anomalib_zsad.benchmark.entries import Entry, Protocol, Spec
from anomalib_zsad.benchmark.grid import Benchmark
from anomalib_zsad.benchmark.run import run_benchmark
from anomalib_zsad.clip import loading
from anomalib_zsad.clip.layout import read_state_dict
from anomalib_zsad.data import AllCategories
from tests.support.small_clip import IMAGE_SIZE, write_small_clip

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
    assert run_benchmark(benchmark, tmp_path, CellRunner(benchmark, tmp_path, **QUIET))[1] == {}
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
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(<(.*?)>\)", text)
    assert {path for path in linked if path.startswith("pictures/")} == {
        "pictures/MVTec.png",
        "pictures/AF-CLIP/MVTec/0_shot/seed_0.png",
        "pictures/AF-CLIP/MVTec/1_shot/seed_0.png",
        "pictures/PaDiM/MVTec/seed_0.png",
        "pictures/mix/MVTec/seed_0.png",
        "pictures/ours twice/MVTec/seed_0.png",
    }
    assert all((tmp_path / path).is_file() for path in linked)
    assert "![bars](<bars.png>)" in text
    kept = [read_cases(path) for path in tmp_path.rglob("cases.npz")]
    assert len(kept) == 2 + 2 + 1 + 2
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


@pytest.mark.slow
def test_a_cell_as_a_command_gives_what_it_gives_in_this_process(benchmark, tmp_path):
    benchmark.models = {"AF-CLIP": replace(benchmark.models["AF-CLIP"], shots=[1])}
    rows, failures = run_benchmark(benchmark, tmp_path / "command", accelerator="cpu")
    assert failures == {}
    here = run_benchmark(benchmark, tmp_path / "here", CellRunner(benchmark, tmp_path / "here", **QUIET))[0]
    pd.testing.assert_frame_equal(rows, here, check_exact=True)


def test_all_cells_of_a_process_share_one_backbone(benchmark, tmp_path, monkeypatch):
    read = []
    benchmark.models["AF-CLIP"].init_args["pretrained"] = str(write_small_clip(tmp_path / "of_no_other_test.pt"))
    monkeypatch.setattr(loading, "read_state_dict", lambda path: (read.append(path), read_state_dict(path))[1])
    runner = CellRunner(benchmark, tmp_path, **QUIET)
    for cell in list(benchmark.cells())[:2]:  # a training, and tests with two numbers of references
        runner(cell)
    assert len(read) == 1


def test_a_target_that_is_not_there_is_told_before_anything_is_trained_for_it(benchmark, tmp_path):
    benchmark.protocols[0].targets["MVTec"] = Spec("anomalib_zsad.BTAD", {"root": str(tmp_path / "gone")})
    for name in ("AF-CLIP", "ours twice"):
        cell = next(each for each in benchmark.cells() if each.model == name)
        with pytest.raises(FileNotFoundError, match="No BTAD"):
            CellRunner(benchmark, tmp_path, **QUIET)(cell)
    assert not (tmp_path / "training").exists()


@pytest.fixture
def targets(visa_root, mvtec_root):
    folders = {"normal_dir": "train/good", "normal_test_dir": "test/good", "abnormal_dir": "test/broken"}
    folder = {"name": "nuts", "root": str(mvtec_root / "bottle"), "mask_dir": "ground_truth/broken", **folders}
    drawn = {"root": None, "categories": ["tile"], "test_good": 2, "test_defective": 1, "image_size": 64}
    return {
        "VisA": Spec("anomalib_zsad.VisA", {"root": str(visa_root), "categories": ["candle"]}),
        "Synthetic": Spec("anomalib_zsad.Synthetic", drawn),
        "Folder": Spec("anomalib.data.Folder", folder),
    }


@pytest.mark.parametrize(("name", "category"), [("VisA", "candle"), ("Synthetic", "tile"), ("Folder", "nuts")])
def test_a_model_of_anomalib_is_tested_on_the_images_of_all_others(benchmark, targets, name, category, tmp_path):
    benchmark.protocols[0].targets = targets
    cell = next(cell for cell in benchmark.cells() if (cell.model, cell.target) == ("PaDiM", name))
    (row,) = CellRunner(benchmark, tmp_path, **QUIET)(cell).to_dict("records")
    others = AllCategories(targets[name].build(AnomalibDataModule))
    others.setup("test")
    assert (row["category"], row["images"]) == (category, len(others.test_data))
    assert others.test_data.has_normal
    assert pd.notna(row["image_AUROC"])
    assert pd.notna(row["pixel_AUPRO"])


@pytest.mark.parametrize(("own", "read"), [(None, 4), (3, 3)])
def test_the_auxiliary_dataset_is_read_in_batches_as_wanted(benchmark, own, read, tmp_path, monkeypatch):
    class Enough(Exception):  # noqa: N818
        pass

    def fit(_, model, datamodule):
        seen.append((datamodule.train_batch_size, datamodule.eval_batch_size, datamodule.num_workers))
        raise Enough

    seen = []
    monkeypatch.setattr(Engine, "fit", fit)
    benchmark.train_batch_size, benchmark.eval_batch_size = 4, 5
    benchmark.models["AF-CLIP"].train_batch_size = own
    with pytest.raises(Enough):
        CellRunner(benchmark, tmp_path, **QUIET)(next(benchmark.cells()))
    assert seen == [(read, 5, 0)]


def test_a_model_with_scores_below_zero_is_tested_where_its_entry_says_so(benchmark, tmp_path):
    flow = {"backbone": "resnet18", "pre_trained": False, "flow_steps": 2}
    benchmark.models = {"FastFlow": Entry("anomalib.models.Fastflow", flow)}
    cell, run = next(benchmark.cells()), CellRunner(benchmark, tmp_path, max_epochs=1, **QUIET)
    with pytest.raises(ValueError, match=r"Fastflow: expected finite raw scores of at least 0, .*signed_scores: true"):
        run(cell)
    benchmark.models["FastFlow"].signed_scores = True
    table = run(cell)
    assert table["image_AUROC"].notna().all()
    assert table["pixel_AUROC"].notna().all()


def test_a_model_in_which_nothing_learns_is_tested_as_it_is(benchmark, small_clip, tmp_path):
    off = dict.fromkeys(("use_knpl", "use_vv", "use_bicmci", "use_conv_adapter"), False)
    benchmark.models = {
        "none": Entry("anomalib_zsad.KAnoClip", {"pretrained": str(small_clip), "image_size": 56, **off})
    }
    table = CellRunner(benchmark, tmp_path, **QUIET)(next(benchmark.cells()))
    assert list(table["category"]) == ["bottle", "grid"]
    assert table["image_AUROC"].notna().all()
    assert not list(tmp_path.rglob("model.ckpt"))


def test_a_member_without_a_result_is_named(benchmark, tmp_path):
    cell = next(each for each in benchmark.cells() if each.model == "mix")
    with pytest.raises(ValueError, match=r"PaDiM/MVTec/bottle/seed_0 has no result, so its model is no member"):
        CellRunner(benchmark, tmp_path, **QUIET)._member("PaDiM", cell)


@pytest.mark.slow
def test_the_checkpoint_of_every_epoch_is_kept_and_tested(benchmark, tmp_path):
    ours = Entry("anomalib_zsad.AFClip", benchmark.models["AF-CLIP"].init_args | {"epochs": 2}, every_epoch=True)
    benchmark = Benchmark({"AF": ours}, benchmark.protocols, num_workers=0)
    runner = CellRunner(benchmark, tmp_path, **QUIET)
    first, second = (runner(cell) for cell in benchmark.cells())
    assert (first["pixel_AUROC"] != second["pixel_AUROC"]).any()
    kept = sorted((tmp_path / "training").rglob("*.ckpt"))
    assert [path.name for path in kept] == ["epoch=0.ckpt", "epoch=1.ckpt"]
