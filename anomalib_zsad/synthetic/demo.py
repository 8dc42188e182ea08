"""The demonstration: draw a dataset, train on some of its categories, test on others, predict a folder."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from anomalib.engine import Engine

from anomalib_zsad.benchmark.case_files import case_columns
from anomalib_zsad.benchmark.cases import CaseKeeper
from anomalib_zsad.data.item import categories_of
from anomalib_zsad.evaluation.scored_image import scored_images
from anomalib_zsad.evaluation.sheet import Row, black_and_white, heat_map, picture_of, save_sheet
from anomalib_zsad.models import AFClip
from anomalib_zsad.synthetic.datamodule import Synthetic
from anomalib_zsad.synthetic.drawing import SEEN, UNSEEN


def run_demo(out: Path, seed: int = 0) -> None:
    """Run all of it; takes a few minutes on two CPU cores and needs no network.

    Args:
        out: The folder for the drawn dataset, the results and the page of pictures.
        seed: Of the pictures and of the training.
    """
    data = out / "data"
    model, engine = small_model(seed), Engine(default_root_dir=out, accelerator="cpu", devices=1, logger=False)
    pictures = seen_and_unseen(data, seed)
    engine.train(model, datamodule=pictures)
    run = Path(engine.trainer.default_root_dir)
    predicted = engine.predict(model=model, datamodule=pictures)
    sheet = out / "sheet.png"
    save_sheet(best_and_worst(predicted or []), sheet)
    engine.predict(model=model, data_path=data / UNSEEN[0] / "test")
    print(_summary(run, sheet, Path(engine.trainer.default_root_dir)))


def seen_and_unseen(data: Path, seed: int = 0) -> Synthetic:
    """Build the datamodule that trains on `SEEN` and tests on `UNSEEN`.

    Args:
        data: The folder to draw into.
        seed: Of the pictures, of the split and of the order of the images.
    """
    return Synthetic(data, test_good=10, test_defective=2, num_workers=0, seed=seed)


def small_model(seed: int = 0, epochs: int = 3) -> AFClip:
    """Build AF-CLIP over the small CLIP of this package.

    The number of epochs and the learning rate are higher than the paper's, since features of this CLIP need more
    adaptation.

    Args:
        seed: Of the initialisation and of the training.
        epochs: Of the training.
    """
    return AFClip(backbone="zsad-tiny", scales=(1, 3), epochs=epochs, seed=seed)


def best_and_worst(
    batches: Iterable[Any],  # what `Engine.predict` returns
    count: int = 6,
) -> list[tuple[str, list[Row]]]:
    """Choose the anomalous images whose maps agree best and worst with the ground truth.

    Args:
        batches: Predictions with ground truth.
        count: Images of each sort.

    Returns:
        Titled columns for `save_sheet`; maps go from blue, their lowest value, to red, their highest.
    """
    keeper = CaseKeeper(count, common_scale=False)
    for batch in batches:
        for category, image in zip(categories_of(batch), scored_images(batch), strict=True):
            if image.label:
                keeper.add(category, image)
    return case_columns(keeper.shown())


def row_of(
    item: Any,  # a predicted image with ground truth
) -> Row:
    """Return the row of one image for `save_sheet`; its map goes from blue, its lowest value, to red, its highest."""
    path, (truth, anomaly_map) = Path(item.image_path), (item.gt_mask.squeeze(), item.anomaly_map.squeeze())
    caption = f"{path.parents[2].name}, {path.parent.name}: score {item.pred_score.item():.2f}"
    pictures = [picture_of(path), black_and_white(truth.bool().numpy()), heat_map(anomaly_map.float().numpy())]
    return Row(pictures, caption)


def _summary(run: Path, sheet: Path, predicted: Path) -> str:
    return f"""
Trained on {", ".join(SEEN)}; tested on {", ".join(UNSEEN)}, which training never saw.
The small CLIP behind it was trained on drawn pictures of the former alone. 0.5 is chance for AUROC.

  table of results    {run / "metrics.csv"}
  score of each image {run / "scores.csv"}
  pictures            {run / "images"}
  page of pictures    {sheet}
  predictions         {predicted / "predictions.csv"}
  trained model       {run / "weights" / "lightning" / "model.ckpt"}
"""
