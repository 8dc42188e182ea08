"""The model card of a saved model: what it is, what it was trained and tested on, and how to use it."""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from anomalib_zsad.clip.known_weights import publication_of
from anomalib_zsad.clip.weights import names_a_file
from anomalib_zsad.data.names import dataset_name
from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.evaluation.markdown import markdown_table
from anomalib_zsad.evaluation.table import MEAN, RANKING
from anomalib_zsad.models.parts.record import Record
from anomalib_zsad.printing import printable

_LICENCES = (
    "The licence of the training data may limit what the weights may be used for (MVTec AD excludes commercial use). "
    "CLIP is not part of these files."
)
_UNSTATED = "Whoever saved this model stated no licence."


def model_card(
    record: Record,
    weights: str,
    *,
    results: pd.DataFrame | None = None,
    tested_on: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    licence: str | None = None,
    started_from: str | None = None,
) -> str:
    """Write the model card of a saved model, with metadata as the Hugging Face hub reads it.

    Args:
        record: Of the model.
        weights: What the commands of the card pass as `weights`: "hf://user/name", or a folder.
        results: The table of the last test; None: not tested.
        tested_on: The datasets of this test.
        settings: Those that are not at their defaults.
        licence: An identifier of the hub, such as "apache-2.0".
        started_from: The published adapter that the model was built of, and its licence.
    """
    method = record["method"]
    data = _card_data(record, results, tested_on, licence)
    sets = _sets(record["trained_on"])
    blocks = [
        f"---\n{data.to_yaml().strip()}\n---",
        f"# {method}" + (f" trained on {', '.join(sets)}" if sets else ""),
        f"Zero-shot anomaly detection with CLIP: an adapter of `anomalib_zsad.{method}`, a model of "
        f"[anomalib](https://github.com/open-edge-platform/anomalib), written by anomalib_zsad {record['version']}. "
        "`model.safetensors` holds what was learnt, `config.json` its settings, training data and thresholds.",
        "## Use",
        *_use(record, weights),
        "## Backbone",
        _backbone(record["backbone"]),
        "## Training data",
        _training_data(record["trained_on"], record.get("memory_of"), started_from),
        "## Last test",
        *_last_test(results, tested_on),
        "## Thresholds",
        _thresholds(record["thresholds"], record["settings"]),
        "## Settings",
        _settings(settings or {}),
        "## Licence",
        f"{f'`{printable(licence)}`.' if licence else _UNSTATED} {_LICENCES}",
    ]
    return "\n\n".join(blocks) + "\n"


def _card_data(record: Record, results: pd.DataFrame | None, tested_on: Sequence[str], licence: str | None) -> Any:
    from huggingface_hub import EvalResult, ModelCardData

    method, (backbone, tag) = record["method"], _named(record["backbone"])
    published = None if tag is None or names_a_file(tag) else publication_of(backbone, tag)
    name = ", ".join(map(dataset_name, tested_on)) or "unknown"
    means = {} if results is None else results.iloc[-1][list(RANKING)].dropna().to_dict()
    return ModelCardData(
        library_name="anomalib_zsad",
        license=licence,
        base_model=published.repo if published and published.repo else None,
        tags=["anomalib", "anomaly-detection", "zero-shot", "clip", method],
        model_name=method,
        eval_results=[
            EvalResult(
                "anomaly-detection", "_".join(sorted(tested_on)) or "unknown", name, str(metric), round(value, 4)
            )
            for metric, value in means.items()
        ]
        or None,
    )


def _use(record: Record, weights: str) -> list[str]:
    method, (_, tag) = record["method"], _named(record["backbone"])
    file = tag is not None and names_a_file(tag)
    options = ["--model", f"anomalib_zsad.{method}", "--model.weights", weights]
    options += ["--model.pretrained", tag or ""] if file else []
    arguments = [repr(weights.removeprefix("hf://")), *([f"pretrained={tag!r}"] if file else [])]
    return [
        f"```\n{shlex.join(['anomalib', 'predict', *options, '--data', 'part.png'])}\n```",
        f"```python\nfrom anomalib_zsad import {method}\n\n"
        f"model = {method}.from_pretrained({', '.join(arguments)})\n```",
    ]


def _backbone(identity: Mapping[str, Any] | None) -> str:
    if identity is None:
        return "Not recorded."
    name, tag = _named(identity)
    known = [
        f"{label} `{identity[key]}`"
        for key, label in (("fingerprint", "fingerprint"), ("sha256", "SHA-256"))
        if identity.get(key)
    ]
    size = identity.get("image_size")
    pixels = f", images of {' x '.join(map(str, size))} pixels" if isinstance(size, list | tuple) else ""
    if tag is None:
        what = f"`{printable(name)}` with untrained weights"
    elif names_a_file(tag):
        what = f"The file `{printable(tag)}`"
    else:
        what = f"`{printable(name)}` of open_clip, weights `{printable(tag)}`"
    return f"{what}{pixels}: {', '.join(known)}."


def _training_data(trained_on: Sequence[str], memory: Mapping[str, Any] | None, started_from: str | None) -> str:
    lines = [f"- {name}: {', '.join(categories) or 'all'}" for name, categories in _sets(trained_on).items()]
    if not lines:
        lines = ["Nothing was trained."]
    if memory is not None:
        lines += ["", f"Remembers {len(memory['references'])} normal images of the target (few-shot)."]
    if started_from is not None:
        lines += ["", f"Built of {started_from}, which the authors of the method published."]
    return "\n".join(lines)


def _last_test(results: pd.DataFrame | None, tested_on: Sequence[str]) -> list[str]:
    if results is None:
        return ["Not tested since these weights were trained or loaded."]
    names = [name for name in RANKING if results[name].notna().any()]
    rows = [
        [
            str(row["category"]),
            str(row["images"]),
            *("" if math.isnan(row[name]) else f"{row[name]:.4f}" for name in names),
        ]
        for row in results.to_dict("records")
    ]
    notes = [
        f"{row['category']}: {row['note']}"
        for row in results.to_dict("records")
        if row["note"] and row["category"] != MEAN
    ]
    where = ", ".join(map(dataset_name, tested_on)) or "unknown data"
    return [
        f"On {printable(where)}; metrics of raw scores, {MEAN} over categories.",
        markdown_table(["category", "images", *names], rows),
        *(["\n".join(f"- {printable(note)}" for note in notes)] if notes else []),
    ]


def _thresholds(thresholds: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    values = {level: thresholds.get(level) for level in ("image", "pixel")}
    known = {level: f"{value:.6g}" for level, value in values.items() if value is not None}
    if not known:
        return "None were fitted, so 0.5 decides: set `image_threshold` and `pixel_threshold`, or calibrate."
    stated = ", ".join(f"{value} of {level}s" for level, value in known.items())
    fixed = [level for level in known if settings.get(f"{level}_threshold") is not None]
    calibration = Calibration.of_record(thresholds.get("calibration"))
    if calibration is not None:
        origin = f"calibrated on {calibration}"
    elif sets := _sets(thresholds.get("fitted_on", [])):
        origin = f"of the best F1 on validation images of {', '.join(sets)}"
    else:
        origin = "of unknown origin"
    by_hand = f"; that of {' and '.join(f'{level}s' for level in fixed)} was set by hand" if fixed else ""
    return f"Raw scores above them are anomalous: {stated}, {printable(origin)}{by_hand}."


def _settings(settings: Mapping[str, Any]) -> str:
    if not settings:
        return "The defaults of the method."
    return "\n".join(f"- `{name}`: `{printable(repr(value))[:200]}`" for name, value in sorted(settings.items()))


def _named(identity: Mapping[str, Any] | None) -> tuple[str, str | None]:
    identity = identity or {}
    return str(identity.get("backbone")), identity.get("pretrained")


def _sets(names: Sequence[str]) -> dict[str, list[str]]:
    """Group the categories of "dataset/category" by dataset."""
    found: dict[str, list[str]] = {}
    for name in names:
        dataset, _, category = printable(name).partition("/")
        found.setdefault(dataset, []).extend([category] if category else [])
    return found
