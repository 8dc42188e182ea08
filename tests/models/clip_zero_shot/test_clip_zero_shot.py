import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.models import list_models
from torch.nn import functional as F

from anomalib_zsad.data import AllCategories, VisA
from anomalib_zsad.models import ClipZeroShot
from tests.support.contract import UNSEEN, engine_in, images


@torch.no_grad()
def test_scores_are_clips_own_with_the_means_of_normalised_prompts(small_clip):
    model = ClipZeroShot(
        pretrained=small_clip, image_size=56, normal_states=["{}", "good {}"], templates=["a {}."], blur_sigma=0
    ).model
    clip, texts = model.encoder.clip, [["a bottle.", "a good bottle."], ["a an anomalous bottle."]]
    tokens = [clip.tokenize(each) for each in texts]
    features = [F.normalize(clip.encode_text(clip.embed_tokens(each), each.argmax(-1)), dim=-1) for each in tokens]
    text = F.normalize(torch.stack([each.mean(0) for each in features]), dim=-1)
    (stream,) = clip.encode_patches(images(), [clip.n_blocks])
    similar = (100 * F.normalize(clip.project(stream), dim=-1) @ text.T).softmax(-1)[..., 1]

    found = model(images(), ["bottle"] * 3)

    torch.testing.assert_close(found.pred_score, similar[:, 0])
    maps = F.interpolate(similar[:, 1:].view(3, 1, 4, 4), (56, 56), mode="bilinear")
    torch.testing.assert_close(found.anomaly_map, maps, atol=1e-4, rtol=0)


def test_it_is_listed_and_tested_but_not_trained(small_clip, visa_root, mvtec_root, tmp_path):
    model = ClipZeroShot(pretrained=small_clip, image_size=56)
    assert model.name in list_models("pascal")
    with pytest.raises(ValueError, match="ClipZeroShot has nothing to train: run anomalib test"):
        engine_in(tmp_path).fit(model, datamodule=VisA(visa_root, ["candle"], num_workers=0))
    data = AllCategories(MVTecAD(mvtec_root), UNSEEN, num_workers=0)
    (metrics,) = engine_in(tmp_path).test(model, datamodule=data)
    assert {"image_AUROC", "pixel_AUROC"} <= metrics.keys()
    assert list(model.evaluator.table["category"]) == [*UNSEEN, "mean"]
    predictions = engine_in(tmp_path).predict(model, data_path=mvtec_root / "bottle" / "test" / "good")
    assert 0 <= predictions[0].pred_score[0] <= 1
