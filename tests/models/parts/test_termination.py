"""A run that is asked to end says so in its exit status."""

import os
import signal
from pathlib import Path

import pytest
from lightning.pytorch import Callback

from anomalib_zsad.data import VisA
from anomalib_zsad.models import AFClip
from tests.support.contract import engine_in
from tests.support.small_clip import IMAGE_SIZE


class Terminate(Callback):
    """Sends what `kill` sends, in the middle of a batch."""

    def _kill(self, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    on_train_batch_start = on_test_batch_start = on_predict_batch_start = _kill


@pytest.mark.parametrize("run", ["fit", "test", "predict"])
def test_a_terminated_run_has_the_status_of_one(run: str, small_clip: Path, visa_root: Path, tmp_path: Path) -> None:
    data = VisA(visa_root, ["candle"], num_workers=0, train_batch_size=2, eval_batch_size=2)
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE)
    model.trained_on = ["unknown"]
    with pytest.raises(SystemExit) as ended:
        getattr(engine_in(tmp_path, callbacks=[Terminate()]), run)(model, datamodule=data)
    assert ended.value.code == 143
