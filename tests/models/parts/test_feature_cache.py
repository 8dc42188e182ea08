import errno
import os
import shutil
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torchvision.transforms.v2 import Compose, RandomHorizontalFlip, Resize

from anomalib_zsad.data import MVTec, VisA
from anomalib_zsad.models import ACDClip, AFClip, AnomalyClip, KAnoClip, WMoEClip
from anomalib_zsad.models.parts.feature_cache import FeatureCache
from tests.support.contract import TRAINED_ON, UNSEEN, engine_in
from tests.support.small_clip import IMAGE_SIZE

IMAGES = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
METHODS = {
    AFClip: {"lr": 1e-3},
    AnomalyClip: {},
    KAnoClip: {"choices": {"deform_kernel": 3, "deform_stride": 2}},
    WMoEClip: {"lr": 1e-3},
}
"""Those that leave the backbone as it is, and what they are trained with here."""
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
KEPT_IN = {AFClip: "float16", AnomalyClip: "bfloat16", KAnoClip: "float16", WMoEClip: "bfloat16"}


class Encoder:
    """Computes two features of different shapes, and counts the images."""

    def __init__(self, scale=1.0):
        self.scale = scale
        self.count = 0

    def __call__(self, images):
        self.count += len(images)
        return [images.flatten(1) * self.scale, images.mean(1).unflatten(1, (2, 2)) + 1]


def cache_in(folder, dtype="float16", **recipe):
    return FeatureCache(folder, recipe, dtype)


def files_in(folder):
    return sorted(folder.rglob("*.safetensors"))


def expected(images, dtype="float16", scale=1.0):
    return [each.to(DTYPES[dtype]).float() for each in Encoder(scale)(images)]


def assert_same(found, wanted):
    assert len(found) == len(wanted)
    assert all(a.dtype == torch.float32 and torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=15)
@given(batches=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True), max_size=5))
def test_every_image_is_computed_once_whatever_the_batches(dtype, batches, tmp_path_factory):
    encode, folder = Encoder(), tmp_path_factory.mktemp("cache")
    for rows in batches:
        assert_same(cache_in(folder, dtype)(IMAGES[rows], encode), expected(IMAGES[rows], dtype))
    assert encode.count == len(files_in(folder)) == len({row for rows in batches for row in rows})


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=30)
@given(value=st.floats(-60000, 60000, width=32))
def test_values_are_rounded_no_further_than_the_type_says(dtype, value, tmp_path_factory):
    images = torch.full((1, 3, 2, 2), value)
    features = cache_in(tmp_path_factory.mktemp("cache"), dtype)(images, lambda x: [x])[0]
    info = torch.finfo(DTYPES[dtype])
    torch.testing.assert_close(features, images, rtol=info.eps / 2, atol=info.smallest_normal * info.eps)


def test_what_decides_the_features_has_files_of_its_own(tmp_path):
    encode = Encoder()
    caches = [
        cache_in(tmp_path, layers=[1, 2]),
        cache_in(tmp_path, layers=[1, 3]),
        cache_in(tmp_path, "bfloat16", layers=[1, 2]),
    ]
    for cache in caches:
        cache(IMAGES, encode)
    assert len({cache.folder for cache in caches}) == 3
    caches[0](IMAGES[..., :2], encode)
    caches[0](IMAGES.double(), encode)
    with torch.autocast("cpu", torch.bfloat16):
        caches[0](IMAGES, encode)
    assert encode.count == len(files_in(tmp_path)) == 6 * len(IMAGES)
    for cache in caches:
        cache(IMAGES, encode)
    assert encode.count == 6 * len(IMAGES)


def test_another_backbone_layer_or_precision_is_another_recipe(small_clip, other_clip, tmp_path):
    models = [
        AFClip(pretrained=small_clip, image_size=56),
        AFClip(pretrained=other_clip, image_size=56),
        AFClip(pretrained=small_clip, image_size=70),
        AFClip(pretrained=small_clip, image_size=56, feature_layers=[1, 2]),
        AFClip(pretrained=small_clip, image_size=56, precision="bf16"),
    ]
    caches = [FeatureCache.of(model.model.encoder, tmp_path, "float16") for model in models]
    assert len({cache.folder for cache in caches}) == len(models)
    moved = shutil.copy(small_clip, tmp_path / "moved.pt")
    same = AFClip(pretrained=moved, image_size=56, feature_layers=[1, 2, 3, 4], lr=1.0, seed=5)
    assert FeatureCache.of(same.model.encoder, tmp_path, "float16").folder == caches[0].folder


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def flip(path, share):
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 0x10
    path.write_bytes(content)


@settings(max_examples=60)
@given(damage=st.sampled_from([cut, flip]), share=st.floats(0, 1, exclude_max=True))
def test_a_damaged_file_is_computed_again_and_replaced(damage, share, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    cache_in(folder)(IMAGES[:2], Encoder())
    damage(files_in(folder)[0], share)
    again = Encoder()
    for _ in range(2):
        assert_same(cache_in(folder)(IMAGES[:2], again), expected(IMAGES[:2]))
    assert again.count == 1


def test_a_foreign_file_is_replaced(tmp_path):
    cache_in(tmp_path)(IMAGES[:3], Encoder())
    foreign, other, empty = files_in(tmp_path)
    save_file({"0": torch.zeros(48), "1": torch.zeros(2, 2, 4)}, foreign)
    shutil.copy(foreign, empty)
    save_file({"weight": torch.zeros(3)}, empty, {"format": "pt"})
    again = Encoder()
    assert_same(cache_in(tmp_path)(IMAGES[:3], again), expected(IMAGES[:3]))
    assert again.count == 2
    shutil.copy(other, foreign)  # whole, but of another image
    assert_same(cache_in(tmp_path)(IMAGES[:3], again), expected(IMAGES[:3]))
    assert again.count == 3


def test_what_does_not_fit_into_float16_is_said_and_not_kept(tmp_path):
    with pytest.raises(ValueError, match=r"at most 65504 in float16, got 1e\+0\d: pass cache_dtype='bfloat16'"):
        cache_in(tmp_path)(torch.full((1, 3, 4, 4), 1e6), Encoder())
    assert files_in(tmp_path) == []
    found = cache_in(tmp_path, "bfloat16")(torch.full((1, 3, 4, 4), 1e6), Encoder())
    torch.testing.assert_close(found[0], torch.full((1, 48), 1e6), rtol=4e-3, atol=0)


def test_what_is_no_number_is_passed_on_and_not_kept(tmp_path):
    images = IMAGES[:2].clone()
    images[0, 0, 0, 0] = torch.nan
    found = cache_in(tmp_path)(images, Encoder())
    assert found[0][0, 0].isnan()
    assert torch.equal(found[0][1], expected(images)[0][1])
    assert len(files_in(tmp_path)) == 1


def test_another_type_is_refused(tmp_path):
    with pytest.raises(ValueError, match="dtype must be one of float16, bfloat16, got 'int8'"):
        cache_in(tmp_path, "int8")


def test_the_size_is_logged_once(tmp_path, caplog):
    caplog.set_level("INFO", logger="anomalib_zsad")
    cache = FeatureCache(tmp_path, {}, n_images=1_000_000)
    for _ in range(2):
        cache(IMAGES, Encoder())
    (line,) = caplog.messages
    assert line == f"Features are kept in {cache.folder}: 0.128 GB for 1000000 images of 0.000128 MB."


Usage = namedtuple("Usage", "total used free")


def test_a_cache_that_does_not_fit_is_refused_and_keeps_what_is_there(tmp_path, monkeypatch):
    each = 2 * (48 + 16)
    FeatureCache(tmp_path, {}, n_images=2)(IMAGES[:2], Encoder())
    before = {path: path.read_bytes() for path in files_in(tmp_path)}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 4 * each - 1))
    with pytest.raises(OSError, match=r"expected room for 5.12e-07 GB more at least in .*, got 5.11e-07 GB"):
        FeatureCache(tmp_path, {}, n_images=6)(IMAGES, Encoder())
    assert {path: path.read_bytes() for path in files_in(tmp_path)} == before
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 4 * each))
    FeatureCache(tmp_path, {}, n_images=6)(IMAGES, Encoder())
    assert len(files_in(tmp_path)) == 6


def test_files_of_other_images_are_not_taken_for_those_that_are_missing(tmp_path, monkeypatch, caplog):
    FeatureCache(tmp_path, {}, n_images=3)(IMAGES[:3], Encoder())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 2 * (48 + 16)))
    FeatureCache(tmp_path, {}, n_images=3)(IMAGES[3:], Encoder())
    assert "1.28e-07 GB are free, and the 3 files there may be of other images" in caplog.text
    caplog.clear()
    FeatureCache(tmp_path, {}, n_images=1)(IMAGES[:1], Encoder())
    assert "other images" not in caplog.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_cannot_be_written_ends_the_keeping_not_the_training(tmp_path, monkeypatch, caplog, number):
    cache = cache_in(tmp_path)
    cache(IMAGES[:2], Encoder())

    def full(path, content):
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        for _ in range(2):
            assert_same(cache(IMAGES, Encoder()), expected(IMAGES))
    assert len([line for line in caplog.messages if f"cannot be written ({os.strerror(number)})" in line]) == 1
    assert len(list(cache.folder.iterdir())) == 3  # two images and the recipe
    again = Encoder()
    assert_same(cache_in(tmp_path)(IMAGES, again), expected(IMAGES))
    assert again.count == 4


def test_a_folder_that_cannot_be_made_costs_a_warning(tmp_path, caplog):
    (tmp_path / "file").touch()
    assert_same(cache_in(tmp_path / "file" / "cache")(IMAGES, Encoder()), expected(IMAGES))
    assert "cannot be written (Not a directory)" in caplog.text


def test_a_whole_cache_is_only_read(tmp_path, monkeypatch):
    cache_in(tmp_path)(IMAGES, Encoder())
    monkeypatch.setattr("anomalib_zsad.models.parts.feature_cache.whole_file", None)
    again = Encoder()
    assert_same(cache_in(tmp_path)(IMAGES, again), expected(IMAGES))
    assert again.count == 0


def test_an_interruption_leaves_nothing_half_written(tmp_path, monkeypatch):
    def interrupted(path, content):
        path.touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache_in(tmp_path)(IMAGES, Encoder())
    assert files_in(tmp_path) == []


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    folder = cache_in(tmp_path).folder
    folder.mkdir(parents=True)
    old, new = folder / ".01234567.unfinished", folder / ".89abcdef.unfinished"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, time.time() - 7200))
    cache_in(tmp_path)(IMAGES, Encoder())
    assert not old.exists()
    assert new.exists()


def test_several_may_share_a_folder(tmp_path):
    def read_all(seed):
        order = torch.randperm(len(IMAGES), generator=torch.Generator().manual_seed(seed))
        cache = cache_in(tmp_path)
        for rows in order.split(2):
            assert_same(cache(IMAGES[rows], Encoder()), expected(IMAGES[rows]))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read_all, range(24)))
    assert len(files_in(tmp_path)) == len(IMAGES)


# In training


class Training:
    """A training that notes its losses and counts the images that the backbone sees."""

    def __init__(self, clip, data, folder, method=AFClip, epochs=3, **arguments):
        arguments = {**METHODS[method], **arguments}
        self.model = method(pretrained=clip, image_size=IMAGE_SIZE, epochs=epochs, **arguments)
        self.losses, self.encoded = [], 0
        loss_terms = self.model.loss_terms

        def note(batch):
            terms = loss_terms(batch)
            self.losses.append(terms["loss"].item())
            return terms

        def count(module, inputs, output):
            self.encoded += len(output)

        self.model.loss_terms = note
        self.engine = engine_in(folder)
        handle = self.model.model.encoder.clip.clip.visual.conv1.register_forward_hook(count)
        try:
            self.engine.fit(self.model, datamodule=data)
        finally:
            handle.remove()  # the weights are shared with other models

    @property
    def learnt(self):
        return torch.cat([p.detach().flatten() for p in self.model.parameters() if p.requires_grad])


def visa(root, **arguments):
    return VisA(root, TRAINED_ON, **{"val_ratio": 0.3, "num_workers": 0, "train_batch_size": 4, **arguments})


@pytest.fixture(scope="module", params=METHODS, ids=lambda method: method.__name__)
def uncached(request, small_clip, visa_root, tmp_path_factory):
    return Training(small_clip, visa(visa_root), tmp_path_factory.mktemp("uncached"), request.param)


def test_the_backbone_runs_once_an_image_and_losses_stay(uncached, small_clip, visa_root, tmp_path):
    data = visa(visa_root)
    method = type(uncached.model)
    options = {"method": method, "cache_features": tmp_path / "cache", "cache_dtype": KEPT_IN[method]}
    first = Training(small_clip, data, tmp_path, **options)
    images = len(data.train_data) + len(data.val_data)
    before = len(data.val_data) if isinstance(uncached.model, KAnoClip) else 0  # what it is tested with once more
    assert uncached.encoded == 3 * images + before
    assert first.encoded == images == len(files_in(tmp_path / "cache"))
    assert first.losses != uncached.losses
    # Relative where a loss is above 1, as the reconstruction of WMoE-CLIP is, a sum over the width.
    assert first.losses == pytest.approx(uncached.losses, abs=1e-3, rel=1e-3)
    assert uncached.losses[0] != pytest.approx(uncached.losses[-1], abs=1e-2)

    second = Training(small_clip, visa(visa_root), tmp_path, **options)
    assert second.encoded == 0
    assert second.losses == first.losses
    assert torch.equal(second.learnt, first.learnt)
    assert second.model.model.encoder.feature_cache is None


def test_images_that_vary_are_refused(small_clip, visa_root, tmp_path):
    data = visa(visa_root, train_augmentations=Compose([Resize((64, 64)), RandomHorizontalFlip()]))
    with pytest.raises(ValueError, match="the augmentation RandomHorizontalFlip varies them: remove the augmentations"):
        Training(small_clip, data, tmp_path, cache_features=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_interrupted_training_leaves_no_cache_in_use(small_clip, visa_root, mvtec_root, tmp_path):
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, cache_features=tmp_path / "cache")
    real = model.loss_terms
    model.loss_terms = lambda batch: {"loss": real(batch)["loss"] * float("nan")}
    with pytest.raises(FloatingPointError):
        engine_in(tmp_path).fit(model, datamodule=visa(visa_root))
    before = len(files_in(tmp_path / "cache"))
    assert before == 4
    engine_in(tmp_path).test(model, datamodule=MVTec(mvtec_root, UNSEEN[:1], num_workers=0))
    assert model.model.encoder.feature_cache is None
    assert len(files_in(tmp_path / "cache")) == before


def test_a_checkpoint_needs_no_cache(small_clip, visa_root, mvtec_root, tmp_path):
    training = Training(small_clip, visa(visa_root), tmp_path, epochs=1, cache_features=tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    checkpoint = training.engine.best_model_path
    assert torch.load(checkpoint, weights_only=True)["hyper_parameters"]["cache_features"] == str(tmp_path / "cache")
    loaded = AFClip.load_from_checkpoint(checkpoint, pretrained=small_clip)
    target = MVTec(mvtec_root, UNSEEN[:1], num_workers=0)
    (expected,) = engine_in(tmp_path).test(training.model, datamodule=target)
    (found,) = engine_in(tmp_path).test(loaded, datamodule=MVTec(mvtec_root, UNSEEN[:1], num_workers=0))
    assert found == expected
    assert not (tmp_path / "cache").exists()


def test_a_method_that_edits_its_towers_has_none(small_clip):
    with pytest.raises(TypeError, match="cache_features"):
        ACDClip(pretrained=small_clip, image_size=IMAGE_SIZE, n_groups=2, cache_features="cache")
