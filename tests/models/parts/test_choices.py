"""What a paper leaves open is one argument: checked like the others, plain data in files, and taken over one by one."""

import json
import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.cli import AnomalibCLI
from anomalib.models import get_model

from anomalib_zsad import ACDClip, AFClip, KAnoChoices, KAnoClip
from anomalib_zsad.benchmark.entries import Entry
from anomalib_zsad.models.parts.adapter_file import load_adapter, save_adapter
from anomalib_zsad.models.parts.record import to_metadata
from tests.support.contract import images, save_checkpoint

TINY = "zsad-tiny"
MOVED = (
    "map_norm is one of the choices: expected choices=KAnoChoices(map_norm=...), --model.choices.map_norm or, "
    "in a file, choices: {map_norm: ...}"
)


@pytest.fixture(scope="module")
def model() -> KAnoClip:
    model = KAnoClip(TINY, sigma=2.0, choices=KAnoChoices(map_norm="minmax", betas=(0.4, 0.9)))
    model.trained_on = ["VisA/candle"]
    return model.eval()


def scores(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval().model(images(size=(168, 168))).pred_score


def test_a_mapping_is_the_same(model: KAnoClip) -> None:
    other = KAnoClip(TINY, sigma=2.0, choices={"map_norm": "minmax", "betas": [0.4, 0.9]})  # type: ignore[arg-type]
    assert other.choices == model.choices == KAnoChoices(map_norm="minmax", betas=(0.4, 0.9))
    assert other.hparams == model.hparams
    assert get_model(
        {"class_path": "anomalib_zsad.KAnoClip", "init_args": {"backbone": TINY, "choices": {"map_norm": "minmax"}}}
    ).choices == KAnoChoices(map_norm="minmax")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"choices": {"map_norm": "sum"}}, "choices.map_norm must be one of softmax, minmax, got 'sum'"),
        ({"choices": {"bica_dim": 0}}, "choices.bica_dim must be an integer in [1, 16384], got 0"),
        ({"choices": {"map": "sum"}}, "), got map"),
        ({"choices": "minmax"}, "choices must be a KAnoChoices or a mapping of its fields, got 'minmax'"),
        ({"map_norm": "minmax"}, f"{MOVED}, got map_norm='minmax'"),
        ({"dice_smooth": 2.0}, "dice_smooth no longer exists: expected none, 1.0 is always used, got dice_smooth=2.0"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_message(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"expected|must be") as caught:
        KAnoClip(TINY, **arguments)
    assert str(caught.value).endswith(said)


def test_choices_made_in_python_are_checked_where_they_are_made() -> None:
    with pytest.raises(ValueError, match=r"choices\.map_norm must be one of softmax, minmax, got 'sum'"):
        KAnoChoices(map_norm="sum")  # type: ignore[arg-type]


def test_a_checkpoint_and_an_adapter_file_hold_them_as_plain_data(model: KAnoClip, tmp_path: Path) -> None:
    content = torch.load(save_checkpoint(model, tmp_path / "a.ckpt"), weights_only=True)
    model.save_weights(tmp_path / "a.safetensors")
    record = json.loads(load_adapter(tmp_path / "a.safetensors")[1]["record"])
    for settings in (content["hyper_parameters"], content["anomalib_zsad"]["settings"], record["settings"]):
        assert type(settings["choices"]) is dict
        assert settings["choices"]["map_norm"] == "minmax"
        assert list(settings["choices"]["betas"]) == [0.4, 0.9]
    for again in (KAnoClip.load_from_checkpoint(tmp_path / "a.ckpt"), KAnoClip(weights=tmp_path / "a.safetensors")):
        assert again.choices == model.choices
        assert torch.equal(scores(again), scores(model))


def test_one_choice_overrides_one_of_the_record(model: KAnoClip, tmp_path: Path, caplog: Any) -> None:
    checkpoint = save_checkpoint(model, tmp_path / "a.ckpt")
    model.save_weights(tmp_path / "a.safetensors")
    given = {"choices": {"temperature": 0.1}}
    again = KAnoClip(backbone=TINY, choices=KAnoChoices(temperature=0.1))
    with caplog.at_level(logging.WARNING, "anomalib_zsad"):
        again.load_checkpoint(checkpoint)
        for other in (
            again,
            KAnoClip.load_from_checkpoint(checkpoint, **given),
            KAnoClip(**given, weights=tmp_path / "a.safetensors"),
        ):
            assert other.choices == KAnoChoices(map_norm="minmax", betas=(0.4, 0.9), temperature=0.1)
            assert other.hparams["sigma"] == 2.0
    assert caplog.text.count("was trained: choices.temperature=0.1 (not 0.07).") == 3


def test_files_whose_choices_were_arguments_are_read(model: KAnoClip, tmp_path: Path) -> None:
    content = torch.load(save_checkpoint(model, tmp_path / "a.ckpt"), weights_only=True)
    gone = {"prompt_suffix": ".", "bica_shared": False, "deform_offset_range": 2.0}
    for settings in (content["hyper_parameters"], content["anomalib_zsad"]["settings"]):
        settings.update(settings.pop("choices"), **gone)
    torch.save(content, tmp_path / "old.ckpt")
    model.save_weights(tmp_path / "a.safetensors")
    tensors, _ = load_adapter(tmp_path / "a.safetensors")
    save_adapter(tmp_path / "old.safetensors", tensors, to_metadata(content["anomalib_zsad"]))
    late = KAnoClip(TINY)
    late.load_checkpoint(tmp_path / "old.ckpt")
    for again in (
        late,
        KAnoClip.load_from_checkpoint(tmp_path / "old.ckpt"),
        KAnoClip(weights=tmp_path / "old.safetensors"),
    ):
        assert again.choices == model.choices
        assert torch.equal(scores(again), scores(model))
    content["anomalib_zsad"]["settings"]["bica_shared"] = True
    torch.save(content, tmp_path / "shared.ckpt")
    with pytest.raises(ValueError, match="has settings that KAnoClip does not have: bica_shared"):
        KAnoClip.load_from_checkpoint(tmp_path / "shared.ckpt")


def parsed(capsys: Any, *arguments: str) -> tuple[Any, str]:
    cli = None
    with suppress(SystemExit):
        cli = AnomalibCLI(["train", *arguments], run=False)
    out = capsys.readouterr()
    return cli, out.out + out.err


def test_the_command_line_shows_and_takes_them(capsys: Any, tmp_path: Path) -> None:
    command = ("--data=MVTecAD", "--model=anomalib_zsad.KAnoClip", f"--model.backbone={TINY}")
    cli, _ = parsed(capsys, *command, "--model.choices.map_norm=minmax", "--model.choices.betas=[0.4,0.9]")
    assert cli.model.choices == KAnoChoices(map_norm="minmax", betas=(0.4, 0.9))
    assert "every abnormal map reaches 1" in " ".join(parsed(capsys, "--model.help=anomalib_zsad.KAnoClip")[1].split())
    old = tmp_path / "old.yaml"
    old.write_text("model: {class_path: anomalib_zsad.KAnoClip, init_args: {map_norm: minmax}}\ndata: MVTecAD\n")
    for arguments in ((*command, "--model.map_norm=minmax"), ("--config", str(old))):
        assert MOVED in " ".join(parsed(capsys, *arguments)[1].split())


def test_a_benchmark_takes_them() -> None:
    path, taken = "anomalib_zsad.KAnoClip", {"choices": {"map_norm": "minmax"}}
    assert Entry(path, {"backbone": TINY, **taken}).build(torch.nn.Module).choices.map_norm == "minmax"
    with pytest.raises(ValueError, match="map_norm is one of the choices: expected choices=KAnoChoices") as caught:
        Entry(path, {"map_norm": "minmax"}).check(torch.nn.Module)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        (ACDClip, {"rank": 4}, "rank is one of the choices: expected choices=ACDChoices(rank=...)"),
        (ACDClip, {"dice_smooth": 2.0}, "dice_smooth no longer exists: expected none, 1.0 is always used"),
        (AFClip, {"heads": 4}, "heads is one of the choices: expected choices=AFChoices(heads=...)"),
    ],
)
def test_former_arguments_of_other_methods_are_refused_with_their_place(kind: Any, arguments: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        kind(TINY, **arguments)


@pytest.mark.parametrize(("kind", "choices"), [(ACDClip, {"rank": 4}), (AFClip, {"heads": 4})])
def test_choices_decide_what_is_built_and_travel(kind: Any, choices: Any, tmp_path: Path) -> None:
    model = kind(TINY, choices=choices).eval()
    model.trained_on = ["VisA/candle"]
    model.save_weights(tmp_path / "a.safetensors")
    tensors, _ = load_adapter(tmp_path / "a.safetensors")
    default = dict(kind(TINY).model.named_parameters())
    assert any(value.shape != default[name].shape for name, value in tensors.items())
    assert torch.equal(scores(kind(weights=tmp_path / "a.safetensors")), scores(model))
