"""The command that sets thresholds: `calibrate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomalib_zsad.commands.typed import command


@command("calibrate", names={"arguments": "-- ARGUMENTS"})
def calibrate(
    arguments: Sequence[str] = (),
    *,
    model: str,
    normal: Sequence[Path],
    ckpt_path: Path | None = None,
    false_alarms: float = 0.01,
    out: Path = Path("calibrated.ckpt"),
) -> int:
    """Set the thresholds of a trained model by normal images alone, with a promised rate of false alarms.

    Args:
        arguments: further ones of `anomalib predict`, such as --model.weights released/visa
        model: class of the model, such as anomalib_zsad.AFClip
        normal: normal images that are neither training images nor references: files or folders
        ckpt_path: checkpoint of the model
        false_alarms: highest share of normal images to be called anomalous
        out: the calibrated model, a checkpoint (.ckpt) or an adapter file (.safetensors)
    """
    from anomalib_zsad.image_files import images_of
    from anomalib_zsad.models.parts.calibrating import calibrate as calibrate_model

    if out.suffix not in {".ckpt", ".safetensors"}:
        msg = f"--out: expected a file with the suffix .ckpt or .safetensors, got {out}"
        raise ValueError(msg)
    files = [file for path in normal for file in images_of(path)]  # before anything slow
    checkpoint = [] if ckpt_path is None else ["--ckpt_path", str(ckpt_path)]
    built = built_model(["--model", model, *checkpoint, *arguments, "--data", str(normal[0])])
    if ckpt_path is not None:
        built.load_checkpoint(ckpt_path)
    calibration = calibrate_model(built, files, false_alarms, source=", ".join(map(str, normal)))
    if out.suffix == ".ckpt":
        built.trainer.save_checkpoint(out)
    else:
        built.save_weights(out)
    print(f"calibrated on {calibration}")
    print(f"raw thresholds: {calibration.image_threshold:.6g} of images, {calibration.pixel_threshold:.6g} of pixels")
    print(f"written to {out}")
    return 0


def built_model(words: Sequence[str]) -> Any:
    """Build the model of a command line of `anomalib predict`."""
    from anomalib.cli import AnomalibCLI

    from anomalib_zsad.models.parts.persistence import Persistence

    model = AnomalibCLI(args=["predict", *words], run=False).model
    if not isinstance(model, Persistence):
        msg = f"--model: expected a model of anomalib_zsad, got {type(model).__name__}"
        raise ValueError(msg)  # a value of the command line
    return model
