import json
from dataclasses import asdict
from pathlib import PurePath

import pytest
import yaml
from anomalib.data import AnomalibDataModule, MVTecAD
from anomalib.models import AnomalibModule

from anomalib_zsad.benchmark.config_file import read_benchmark
from anomalib_zsad.benchmark.entries import Entry, Protocol, Spec
from anomalib_zsad.benchmark.grid import Benchmark, Cell, build_model
from anomalib_zsad.cli import main
from anomalib_zsad.models import AFClip

AF = {"class_path": "anomalib_zsad.AFClip", "init_args": {"image_size": 56}, "shots": [0, 2]}
SYNTHETIC = {"class_path": "anomalib_zsad.Synthetic", "init_args": {"colour": 1}}
PROTOCOL = {"auxiliary": {"class_path": "anomalib_zsad.VisA"}, "targets": {"T": {"class_path": "anomalib_zsad.MVTec"}}}


def config(root, **changes):
    return {
        "models": {"AF-CLIP": AF, "PaDiM": {"class_path": "anomalib.models.Padim"}},
        "protocols": [
            {
                "auxiliary": {"class_path": "anomalib_zsad.VisA", "init_args": {"root": str(root)}},
                "targets": {"MVTec": {"class_path": "anomalib.data.MVTecAD", "init_args": {"root": str(root)}}},
            }
        ],
        "seeds": [0, 1],
        **changes,
    }


def read(tmp_path, content):
    path = tmp_path / "b.yaml"
    path.write_text(yaml.safe_dump(content))
    return read_benchmark(path)


def test_zero_shot_models_test_all_categories_at_once_others_one_by_one(tmp_path, mvtec_root):
    cells = list(read(tmp_path, config(mvtec_root)).cells())
    assert len(cells) == len({cell.name for cell in cells}) == 2 * 2 + 2 * 15
    ours = [cell for cell in cells if cell.model == "AF-CLIP"]
    assert {(cell.category, cell.shots, cell.seed) for cell in ours} == {(None, k, s) for k in (0, 2) for s in (0, 1)}
    assert {cell.category for cell in cells if cell.model == "PaDiM"} >= {"bottle", "zipper"}
    assert ours[0].name == "AF-CLIP/MVTec/0_shot/seed_0"


def test_no_two_cells_share_a_path_and_none_leads_out_of_the_folder(mvtec_root):
    target = Spec("anomalib.data.MVTecAD", {"root": str(mvtec_root)})
    names = ["C", "B/C", "..", "/C"]
    entries = {name: Entry("anomalib_zsad.AFClip") for name in ("A", "A/B", "..", "/A")}
    benchmark = Benchmark(entries, [Protocol(Spec("anomalib_zsad.VisA"), dict.fromkeys(names, target))])
    cells = list(benchmark.cells())
    assert len({cell.name for cell in cells}) == len(cells) == 16
    assert len({benchmark.training_of(cell) for cell in cells}) == 4
    for path in [*(cell.name for cell in cells), *map(benchmark.training_of, cells)]:
        assert not PurePath(path).is_absolute()
        assert ".." not in PurePath(path).parts
        assert len(PurePath(path).parts) == 3


def test_references_are_drawn_over_one_training(tmp_path, mvtec_root):
    benchmark = read(tmp_path, config(mvtec_root, models={"AF-CLIP": AF | {"draws": 3}}, seeds=[7]))
    cells = list(benchmark.cells())
    assert [(cell.shots, cell.seed) for cell in cells] == [(0, 7), (2, 0), (2, 1), (2, 2)]
    assert {benchmark.training_of(cell) for cell in cells} == {"AF-CLIP/protocol_0/seed_7"}
    assert {cell.training_seed for cell in cells} == {7}
    assert len({benchmark.fingerprint(cell) for cell in cells}) == len({cell.name for cell in cells}) == 4


@pytest.mark.parametrize(
    ("entry", "more"), [({"draws": 3}, {"seeds": [0, 1]}), ({"draws": 0}, {}), ({"draws": 3, "shots": []}, {})]
)
def test_draws_need_references_and_one_seed(tmp_path, mvtec_root, entry, more):
    with pytest.raises(ValueError, match="AF-CLIP: expected draws of 1 or more, with shots and one seed, got draws: "):
        read(tmp_path, config(mvtec_root, models={"AF-CLIP": AF | entry}, **{"seeds": [0], **more}))


def test_every_epoch_has_a_row_and_one_training_serves_them(tmp_path, mvtec_root):
    model = {"class_path": "anomalib_zsad.ACDClip", "init_args": {"epochs": 2}, "every_epoch": True, "variant": "N=4"}
    benchmark = read(tmp_path, config(mvtec_root, models={"ACD": model}, seeds=[0]))
    cells = list(benchmark.cells())
    assert [cell.model for cell in cells] == ["ACD, epoch 1", "ACD, epoch 2"]
    assert {benchmark.training_of(cell) for cell in cells} == {"ACD/protocol_0/seed_0"}
    assert benchmark.fingerprint(cells[0]) != benchmark.fingerprint(cells[1])
    assert {entry.variant for entry in benchmark.models.values()} == {"N=4"}
    again = read(tmp_path, json.loads(json.dumps(asdict(benchmark))))  # as a cell's own command reads it
    assert [(cell, again.fingerprint(cell)) for cell in again.cells()] == [
        (cell, benchmark.fingerprint(cell)) for cell in cells
    ]
    padim = {"class_path": "anomalib.models.Padim", "every_epoch": True}
    with pytest.raises(ValueError, match="PaDiM: expected every_epoch of a model of this package that is trained"):
        read(tmp_path, config(mvtec_root, models={"PaDiM": padim}))


def test_settings_that_decide_a_result_change_the_fingerprint_and_no_others(tmp_path, mvtec_root):
    before, after = read(tmp_path, config(mvtec_root)), read(tmp_path, config(mvtec_root, train_batch_size=3))
    ours, theirs = (next(cell for cell in before.cells() if cell.model == name) for name in ("AF-CLIP", "PaDiM"))
    assert before.fingerprint(ours) != after.fingerprint(ours)
    assert before.fingerprint(theirs) == after.fingerprint(theirs)
    more_seeds = read(tmp_path, config(mvtec_root, seeds=[0, 1, 2]))
    assert more_seeds.fingerprint(ours) == before.fingerprint(ours)


def mixed(root, members, **more):
    models = {**config(root)["models"], "mix": {"class_path": "anomalib_zsad.Ensemble", "members": members, **more}}
    return config(root, models=models)


def test_an_ensemble_is_tested_by_category_where_one_of_its_members_is(tmp_path, mvtec_root):
    ours, both = (
        list(read(tmp_path, mixed(mvtec_root, names)).cells()) for names in (["AF-CLIP"], ["AF-CLIP", "PaDiM"])
    )
    assert [cell.name for cell in ours if cell.model == "mix"] == ["mix/MVTec/seed_0", "mix/MVTec/seed_1"]
    assert len([cell for cell in both if cell.model == "mix"]) == 2 * 15


def test_the_settings_of_members_change_the_fingerprint(tmp_path, mvtec_root):
    def mark(content):
        benchmark = read(tmp_path, content)
        return benchmark.fingerprint(next(cell for cell in benchmark.cells() if cell.model == "mix"))

    before, other, weighted = (mixed(mvtec_root, ["AF-CLIP", "PaDiM"]) for _ in range(3))
    other["models"]["PaDiM"] = {"class_path": "anomalib.models.Padim", "init_args": {"n_features": 7}}
    weighted["models"]["mix"]["init_args"] = {"weights": [2, 1]}
    retrained = mixed(mvtec_root, ["AF-CLIP", "PaDiM"]) | {"train_batch_size": 3}
    theirs = [mixed(mvtec_root, ["PaDiM"]), mixed(mvtec_root, ["PaDiM"]) | {"train_batch_size": 3}]
    assert len({mark(each) for each in (before, other, weighted, retrained)}) == 4
    assert mark(before) == mark(mixed(mvtec_root, ["AF-CLIP", "PaDiM"]))
    assert mark(theirs[0]) == mark(theirs[1])


@pytest.mark.parametrize(
    ("members", "more", "found"),
    [
        (["AF-CLIP", "gone"], {}, "the member gone"),
        (["mix"], {}, "the member mix"),
        (["PaDiM"], {"shots": [1]}, "shots"),
    ],
)
def test_members_are_models_named_before(tmp_path, mvtec_root, members, more, found):
    with pytest.raises(ValueError, match=rf"mix: expected models named before it \(AF-CLIP, PaDiM\) .* got {found}"):
        read(tmp_path, mixed(mvtec_root, members, **more))


def test_a_class_is_built_with_its_arguments(mvtec_root):
    built = Spec("anomalib.data.MVTecAD", {"root": str(mvtec_root), "category": "grid"}).build(AnomalibDataModule)
    assert isinstance(built, MVTecAD)
    assert built.category == "grid"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (Spec("anomalib.data.MVTecAD", {"colour": 1}), "MVTecAD: .* but: Option 'colour' is not accepted"),
        (Spec("anomalib.data.MVTecAD", {"num_workers": "x"}), "MVTecAD: .* but: .*num_workers.* Got value: x"),
        (Spec("anomalib.data.Nothing"), "Nothing: expected an AnomalibDataModule .* has no attribute 'Nothing'"),
        (Spec("anomalib.models.Padim"), "Padim: expected an AnomalibDataModule and its arguments, but: .* subclass"),
    ],
)
def test_a_class_that_cannot_be_built_is_named(spec, said):
    with pytest.raises(ValueError, match=said):
        spec.build(AnomalibDataModule)


def test_a_model_takes_the_references_and_the_seed_of_its_cell(tmp_path, mvtec_root, small_clip):
    benchmark = read(tmp_path, config(mvtec_root))
    entry = Entry("anomalib_zsad.AFClip", {"pretrained": str(small_clip), "image_size": 56}, [2])
    cell = [each for each in benchmark.cells() if each.shots == 2][1]
    model = build_model(entry, cell, visualizer=False)
    assert isinstance(model, AFClip)
    assert isinstance(model, AnomalibModule)
    assert (model.hparams["k_shot"], model.hparams["seed"], model.visualizer) == (2, 1, None)


def test_an_ensemble_takes_its_members_as_they_are(small_clip):
    member = AFClip(pretrained=small_clip, image_size=56)
    entry = Entry("anomalib_zsad.Ensemble", {"weights": [2, 1]}, members=["a", "a"])
    model = build_model(entry, Cell("mix", "MVTec", None, None, 0), models=[member, member], visualizer=False)
    assert [each.model for each in model.model.members] == [member.model] * 2
    assert model.model.weights == [2, 1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": {}}, "expected models, seeds and targets"),
        ({"seeds": []}, "expected models, seeds and targets"),
        ({"speed": 3}, "speed"),
        ({"launcher": {"jobs": 0}}, "at least 1 job"),
        ({"launcher": {"backend": "loky"}}, "launcher.backend: .*'local', 'dask', 'ray' or 'submitit'"),
        ({"models": {"a": {"shots": [1]}}}, "class_path"),
        ({"seeds": [0, 1, 0]}, "seeds: expected each once, got 0 more than once"),
        ({"models": {"a": {**AF, "shots": [2, 2]}}}, "shots of a: expected each once, got 2 more than once"),
        ({"models": {"a": {**AF, "init_args": {"colour": 1}}}}, "models.a: anomalib_zsad.AFClip: .*'colour'"),
        (
            {"protocols": [PROTOCOL | {"auxiliary": {"class_path": "anomalib_zsad.Visa"}}]},
            "protocols.0.auxiliary: .*Visa",
        ),
        ({"protocols": [PROTOCOL | {"targets": {"T": SYNTHETIC}}]}, r"protocols.0.targets.T: .*Synthetic: .*'colour'"),
        ({"models": {"a": {**AF, "init_args": {"k_shot": 4}}}}, r"a: expected shots: \[4\], got k_shot in init_args"),
    ],
)
def test_a_wrong_configuration_names_the_file_and_the_argument(tmp_path, mvtec_root, changes, said):
    with pytest.raises(ValueError, match=rf"b.yaml: expected the configuration of a benchmark, but (.|\n)*{said}"):
        read(tmp_path, config(mvtec_root, **changes))


def test_a_target_of_two_protocols_is_refused():
    protocol = Protocol(Spec("a"), {"MVTec": Spec("b")})
    with pytest.raises(ValueError, match="each target once, got MVTec more than once"):
        Benchmark({"m": Entry("c")}, [protocol, protocol])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.yaml: expected the configuration"):
        read_benchmark(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["", "models", "- a\n- b\n"])
def test_a_file_of_something_else_is_told(tmp_path, text):
    (tmp_path / "b.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"b.yaml: expected the configuration .* it has no models and protocols: "):
        read_benchmark(tmp_path / "b.yaml")


@pytest.mark.parametrize("path", ["anomalib_zsad.AFClipp", "anomalib_zssad.AFClip", "AFClip", "anomalib_zsad.VisA"])
def test_a_misspelt_model_is_told_in_a_sentence(path, tmp_path, mvtec_root, capsys):
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(config(mvtec_root, models={"a": {"class_path": path}})))
    assert main(["benchmark", "-c", str(tmp_path / "b.yaml"), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith(
        f"anomalib-zsad: {tmp_path / 'b.yaml'}: expected the configuration of a benchmark, but models.a: "
    )
    assert f"{path}: expected the path of a model's class, " in line


def test_batches_are_as_the_entry_says_else_the_dataset_else_the_benchmark(tmp_path, mvtec_root):
    content = config(mvtec_root, train_batch_size=5, eval_batch_size=6, num_workers=0)
    benchmark = read(tmp_path, content)
    ours, theirs = (next(cell for cell in benchmark.cells() if cell.model == name) for name in ("AF-CLIP", "PaDiM"))
    assert benchmark.training_plumbing(ours) == {"train_batch_size": 5, "eval_batch_size": 6, "num_workers": 0}
    content["protocols"][0]["auxiliary"]["init_args"] |= {"train_batch_size": 4, "num_workers": 1}
    by_dataset = read(tmp_path, content)
    assert by_dataset.training_plumbing(ours) == {"train_batch_size": 4, "eval_batch_size": 6, "num_workers": 1}
    content["models"] = {name: {**entry, "train_batch_size": 3} for name, entry in content["models"].items()}
    by_entry = read(tmp_path, content)
    assert by_entry.training_plumbing(ours)["train_batch_size"] == 3
    assert len({each.fingerprint(ours) for each in (benchmark, by_dataset, by_entry)}) == 3
    assert by_entry.fingerprint(theirs) != benchmark.fingerprint(theirs)


def test_cells_that_need_one_training_name_it(tmp_path, mvtec_root):
    benchmark = read(tmp_path, config(mvtec_root))
    trainings = {cell.name: benchmark.training_of(cell) for cell in benchmark.cells()}
    assert trainings["AF-CLIP/MVTec/0_shot/seed_0"] == trainings["AF-CLIP/MVTec/2_shot/seed_0"]
    assert trainings["AF-CLIP/MVTec/0_shot/seed_0"] != trainings["AF-CLIP/MVTec/0_shot/seed_1"]
    assert trainings["PaDiM/MVTec/bottle/seed_0"] is None
    holds = {"AF-CLIP": {**AF, "init_args": {"weights": "adapter.safetensors"}}}
    trained = read(tmp_path, config(mvtec_root, models=holds))
    assert {trained.training_of(cell) for cell in trained.cells()} == {None}


def test_where_cells_run_is_read_and_decides_no_result(tmp_path, mvtec_root):
    launcher = {"jobs": 2, "backend": "dask", "options": {"address": "node1:8786"}}
    before, after = read(tmp_path, config(mvtec_root)), read(tmp_path, config(mvtec_root, launcher=launcher))
    assert (after.launcher.jobs, after.launcher.backend) == (2, "dask")
    assert [before.fingerprint(cell) for cell in before.cells()] == [after.fingerprint(cell) for cell in after.cells()]
