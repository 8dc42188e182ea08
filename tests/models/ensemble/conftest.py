"""Trained members: one of this package, one of anomalib."""

from pathlib import Path

import pytest
from anomalib.data import MVTecAD
from anomalib.models import Padim
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_zsad.data import VisA
from anomalib_zsad.models import AFClip
from tests.support.contract import engine_in
from tests.support.small_clip import IMAGE_SIZE


@pytest.fixture(scope="session")
def af_clip(small_clip: Path, visa_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of AF-CLIP, for maps of 56 px."""
    engine = engine_in(tmp_path_factory.mktemp("af_clip"))
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, feature_layers=[4], scales=[1], epochs=1, lr=1e-2)
    engine.fit(model, datamodule=VisA(visa_root, ["candle"], val_ratio=0.3, num_workers=0))
    return Path(engine.best_model_path)


@pytest.fixture(scope="session")
def padim(mvtec_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of PaDiM with untrained features, for maps of 64 x 48 px."""
    engine = engine_in(tmp_path_factory.mktemp("padim"))
    transform = Compose([Resize((64, 48), antialias=True), Normalize([0.5] * 3, [0.25] * 3)])
    model = Padim(layers=["layer1"], pre_trained=False, n_features=4, pre_processor=PreProcessor(transform))
    engine.fit(model, datamodule=bottles(mvtec_root))
    return Path(engine.best_model_path)


def bottles(root: Path) -> MVTecAD:
    return MVTecAD(root, "bottle", num_workers=0, train_batch_size=2, eval_batch_size=4)


@pytest.fixture
def data(mvtec_root: Path) -> MVTecAD:
    return bottles(mvtec_root)
