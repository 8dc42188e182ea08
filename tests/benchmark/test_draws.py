import pandas as pd
import pytest

from anomalib_zsad.cli import main
from tests.support.small_clip import IMAGE_SIZE


@pytest.mark.slow
def test_every_number_of_references_is_tested_over_its_draws(small_clip, mvtec_root, tmp_path, capsys):
    model = ["--model=anomalib_zsad.AFClip", f"--model.pretrained={small_clip}", f"--model.image_size={IMAGE_SIZE}"]
    source = ["--data.source=MVTecAD", f"--data.source.root={mvtec_root}", "--data.categories=[bottle,grid]"]
    arguments = [*model, "--data=AllCategories", *source, "--data.num_workers=0", "--trainer.accelerator=cpu"]
    command = ["few-shot", "--shots", "0", "1", "--draws", "2", "--out", str(tmp_path / "out"), "--", *arguments]
    assert main(command) == 0
    told = capsys.readouterr().err
    assert [line for line in told.splitlines() if " references, draw " in line] == [
        "0 references, draw 1 of 1.",
        "1 references, draw 1 of 2.",
        "1 references, draw 2 of 2.",
    ]
    rows = pd.read_csv(tmp_path / "out" / "few_shot.csv")
    assert set(zip(rows["shots"], rows["draw"], strict=True)) == {(0, 0), (1, 0), (1, 1)}
    assert set(rows["category"]) == {"bottle", "grid", "mean"}
    means = rows[(rows["category"] == "mean") & (rows["shots"] == 1)]["pixel_AUROC"] * 100
    table = (tmp_path / "out" / "few_shot.md").read_text().splitlines()
    column = [cell.strip() for cell in table[0].split("|")].index("pixel_AUROC")
    zero, one = ([cell.strip() for cell in line.split("|")] for line in table[2:4])
    assert table[-1].startswith("In percent: mean over categories, which count alike; not of pooled images")
    assert "±" not in zero[column]
    assert one[column] == f"{means.mean():.1f} ± {means.std():.1f}"


@pytest.mark.parametrize(("option", "number", "kind"), [("draws", "0", "an integer"), ("shots", "-1", "a list")])
def test_numbers_that_leave_nothing_to_run_are_refused(option, number, kind, tmp_path, capsys):
    assert main(["few-shot", f"--{option}", number, "--out", str(tmp_path), "--", "--model=anomalib_zsad.AFClip"]) == 2
    assert capsys.readouterr().err.startswith(f"anomalib-zsad: {option} must be {kind}")
