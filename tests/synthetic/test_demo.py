"""The whole demonstration, smaller than a user sees it."""

from pathlib import Path

import pandas as pd
import pytest

from anomalib_zsad import Synthetic
from anomalib_zsad.synthetic import demo
from anomalib_zsad.synthetic.drawing import SEEN, UNSEEN


@pytest.mark.slow
def test_the_demonstration_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    few = {"categories": SEEN[:3], "target_categories": UNSEEN[:2], "test_good": 4, "test_defective": 1}
    monkeypatch.setattr(demo, "Synthetic", lambda root, **given: Synthetic(root, **{**given, **few}))
    monkeypatch.setattr(demo, "small_model", lambda seed, model=demo.small_model: model(seed, epochs=1))
    demo.run_demo(tmp_path)

    folder = tmp_path / "AFClip" / "Synthetic" / "v0"
    table = pd.read_csv(folder / "metrics.csv")
    assert list(table["category"]) == [*sorted(UNSEEN[:2]), "mean"]
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    told = capsys.readouterr().out
    for line in told.splitlines()[-7:]:
        if line.strip():
            assert Path(line.split()[-1]).exists()
