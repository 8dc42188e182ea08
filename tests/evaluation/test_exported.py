import numpy as np
import pytest

from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.evaluation.exported import KEY, ExportedRecord, after_post_processing
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor

SCORES = [0.11, 0.2, 0.2, 0.31, 0.42, 0.5, 0.63, 0.74, 0.9]


@pytest.fixture
def post_processor() -> MonotonePostProcessor:
    post_processor = MonotonePostProcessor()
    post_processor.calibrate(Calibration.of_scores(SCORES, [x / 2 for x in SCORES], 0.2, source="good"))
    return post_processor


def test_scores_as_they_come_out_of_a_graph(post_processor):
    shown = after_post_processing(post_processor.calibration, post_processor)
    assert shown.image_threshold == shown.pixel_threshold == 0.5
    np.testing.assert_allclose(shown.image_scores[:2], [0.11 / 0.74 / 2, 0.2 / 0.74 / 2], rtol=1e-5)
    np.testing.assert_allclose(shown.map_maxima[-1], 1 - 0.5 * 0.55 / 0.63, rtol=1e-5)
    assert (shown.false_alarms, shown.source) == (0.2, "good")


def test_scores_that_are_not_normalised_stay(post_processor):
    post_processor.enable_normalization = False
    shown = after_post_processing(post_processor.calibration, post_processor)
    np.testing.assert_allclose(shown.image_scores, SCORES, rtol=1e-6)


def test_it_is_read_as_it_was_written(post_processor):
    record = ExportedRecord(
        method="AFClip",
        version="1",
        settings={"scales": [1], "note": 'é"<'},
        trained_on=["VisA/candle"],
        thresholds={"image": 0.5, "pixel": None, "fitted_on": []},
        calibration=post_processor.calibration,
    )
    assert ExportedRecord.of_text(record.to_text()) == record


@pytest.mark.parametrize("text", ["", "{}", '{"method": "AFClip"}', "[1]"])
def test_other_metadata_are_refused(text):
    with pytest.raises(ValueError, match=f"{KEY}: expected the metadata of a graph that this package exported, but "):
        ExportedRecord.of_text(text)
