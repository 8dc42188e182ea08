import torch
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import CenterCrop, Compose, InterpolationMode, Normalize, Resize

from anomalib_zsad.models.parts.pre_processor import ClipPreProcessor, exactly


def picture(*size: int):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


def test_what_is_exported_computes_what_training_computes():
    processor = ClipPreProcessor.of_size((56, 42))
    for size in ((1000, 1400), (56, 42), (20, 30)):
        image = picture(*size)
        torch.testing.assert_close(processor(image), processor.transform(image), atol=1e-4, rtol=0)


def test_anomalib_s_own_does_not():
    image, transform = picture(200, 300), ClipPreProcessor.of_size(56).transform
    assert (PreProcessor(transform)(image) - transform(image)).abs().max() > 0.1


def test_a_checkpoint_brings_its_transform_back():
    saved, other = ClipPreProcessor.of_size((56, 42)), ClipPreProcessor.of_size(28)
    other.load_checkpoint_config(saved.checkpoint_config())
    image = picture(100, 80)
    assert torch.equal(other.transform(image), saved.transform(image))
    assert torch.equal(other(image), saved(image))


def test_other_steps_are_exported_as_anomalib_does():
    nearest = Resize((60, 60), interpolation=InterpolationMode.NEAREST_EXACT, antialias=True)
    steps = [nearest, CenterCrop(40), Normalize([0.5] * 3, [0.5] * 3)]
    ours, theirs = ClipPreProcessor(Compose(steps)), PreProcessor(Compose(steps))
    assert torch.equal(ours(picture(64, 80)), theirs(picture(64, 80)))
    assert ours(picture(64, 80)).shape == (2, 3, 40, 40)


def test_anomalib_s_pre_processor_can_be_exported_exactly():
    steps = [Resize((56, 42), antialias=True), Normalize([0.5] * 3, [0.5] * 3)]
    processor, image = PreProcessor(Compose(steps)), picture(200, 300)
    torch.testing.assert_close(exactly(processor)(image), processor.transform(image), atol=1e-4, rtol=0)
    assert (processor(image) - processor.transform(image)).abs().max() > 0.1


def test_without_a_transform_images_stay_as_they_are():
    image = picture(5, 6)
    assert exactly(None)(image) is image
    assert exactly(PreProcessor(None))(image) is image
