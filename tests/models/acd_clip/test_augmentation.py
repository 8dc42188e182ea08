import pytest
import torch
from torchvision import tv_tensors

from anomalib_zsad.clip.named import CLIP_LOOK
from anomalib_zsad.data import VisA
from anomalib_zsad.models.acd_clip import ACDClip
from anomalib_zsad.models.acd_clip.augmentation import SparseNoise, TrainingAugmentation
from tests.support.contract import TRAINED_ON, engine_in


def pair(size=(60, 48)):
    """A grey image with a white square, and the mask of the square."""
    image = torch.full((3, *size), 0.5)
    mask = torch.zeros(size, dtype=torch.uint8)
    image[:, 10:30, 8:24] = 1
    mask[10:30, 8:24] = 1
    return tv_tensors.Image(image), tv_tensors.Mask(mask)


@pytest.mark.parametrize("seed", range(8))
def test_geometry_moves_image_and_mask_together(seed):
    torch.manual_seed(seed)
    image, mask = TrainingAugmentation(56, noise=0, jitter_probability=0, geometry_probability=1)(*pair())
    assert image.shape == (3, 56, 56)
    assert mask.shape == (56, 56)
    assert set(mask.unique().tolist()) <= {0, 1}
    differing = (image[0] > 0.75) != mask.bool()
    assert differing.float().mean() < 0.03  # interpolated edges


def test_rotation_makes_no_value_that_was_not_there():
    torch.manual_seed(0)
    picture = tv_tensors.Image((torch.rand(1, 60, 60) > 0.5).float().expand(3, -1, -1))
    augmentation = TrainingAugmentation(60, noise=0, jitter_probability=0, geometry_probability=1)
    rotated = augmentation(picture)
    brought_in = torch.tensor(CLIP_LOOK.mean)[:, None, None].expand_as(rotated)
    near = torch.minimum((rotated - rotated.round()).abs(), (rotated - brought_in).abs())
    assert near.max() < 1e-4


def test_colour_and_noise_leave_the_mask_alone():
    torch.manual_seed(0)
    image, mask = TrainingAugmentation((60, 48), noise=1, jitter_probability=1, geometry_probability=0)(*pair())
    assert torch.equal(mask, pair()[1])
    assert not torch.allclose(image, pair()[0], atol=0.01)
    assert 0 <= image.min() <= image.max() <= 1.2  # bicubic resizing may ring


def test_without_chance_the_image_is_only_resized():
    image, mask = TrainingAugmentation((60, 48), noise=0, jitter_probability=0, geometry_probability=0)(*pair())
    torch.testing.assert_close(image, pair()[0], atol=1e-5, rtol=0)
    assert torch.equal(mask, pair()[1])


def test_noise_is_sparse_and_stays_in_range():
    torch.manual_seed(0)
    image = tv_tensors.Image(torch.full((3, 500, 500), 0.2))
    noisy = SparseNoise(probability=1)(image)
    hit = noisy[:, (noisy != image).any(dim=0)]
    assert 0.0008 < hit.shape[1] / 500**2 < 0.0019  # a standard normal exceeds 3 with 0.00135
    assert 0 <= noisy.min() <= noisy.max() <= 1
    # Noise times the pixel takes its place: half of it is negative and becomes 0, the rest is 0.2 as far from 0.
    assert 0.4 < (hit == 0).float().mean() < 0.6
    assert 0.17 < hit[hit > 0].square().mean().sqrt() < 0.23
    assert torch.equal(SparseNoise(probability=0)(image), image)


def test_images_come_without_masks_too():
    assert TrainingAugmentation(56)(pair()[0]).shape == (3, 56, 56)


class Seen(ACDClip):
    """Remembers the first batch that it trains on."""

    def loss_terms(self, batch):
        self.seen = batch
        return super().loss_terms(batch)


def train(clip, root, folder, augmentation=True, **data):
    datamodule = VisA(root, TRAINED_ON, val_ratio=0.3, num_workers=0, **data)
    model = Seen(pretrained=clip, image_size=56, n_groups=2, epochs=1, choices={"augmentation": augmentation})
    engine_in(folder).fit(model, datamodule=datamodule)
    return model, datamodule


def test_training_images_are_varied_by_default_and_others_never(small_clip, visa_root, tmp_path):
    model, datamodule = train(small_clip, visa_root, tmp_path)
    assert isinstance(datamodule.train_data.augmentations, TrainingAugmentation)
    assert not isinstance(datamodule.val_data.augmentations, TrainingAugmentation)
    plain, _ = train(small_clip, visa_root, tmp_path, augmentation=False)
    assert plain.seen.image_path == model.seen.image_path
    assert not torch.allclose(plain.seen.image, model.seen.image)


def test_augmentations_of_the_datamodule_replace_ours(small_clip, visa_root, tmp_path):
    own = TrainingAugmentation(56, noise=0, jitter_probability=0, geometry_probability=0)
    ours, _ = train(small_clip, visa_root, tmp_path, train_augmentations=own)
    plain, _ = train(small_clip, visa_root, tmp_path, augmentation=False)
    torch.testing.assert_close(ours.seen.image, plain.seen.image, atol=1e-3, rtol=0)
