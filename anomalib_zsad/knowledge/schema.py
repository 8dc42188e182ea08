"""The file format of a knowledge base, version 1."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
MAX_TOKENS = 75
"""What CLIP's 77 positions leave beside the start and the end of a text."""

TEMPLATE = "template"
"""`Text.by` of the shipped templates, which stand in where a model gave no usable answer."""


def _check_printable(text: str) -> str:
    # Texts come from models and from files of others: nothing in them may steer a terminal.
    if not text.isprintable():
        msg = "expected one line of printable characters"
        raise ValueError(msg)
    return text


Line = Annotated[str, AfterValidator(_check_printable)]
Name = Annotated[Line, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Generator(_Part):
    """Where texts come from.

    Args:
        backend: "ollama" for a model's answers, "file" for texts from a file.
        model: The model's name; "" for written texts.
        digest: Of the model.
        prompt: The question, with {class} in place of a class.
        prompt_sha256: Of the question and of the system message that went with it; "" for written texts.
        options: Those of the model: temperature, seed and so on.
        created: Date and time, ISO 8601.
        note: What else there is to know.
    """

    backend: Literal["ollama", "file"]
    model: Line
    prompt_sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
    options: dict[str, Any]
    digest: Line = ""
    prompt: str = ""
    created: Line = ""
    note: Line = ""


class Text(_Part):
    """A description.

    Args:
        text: One sentence.
        clip_tokens: Its length in CLIP's tokens, without start and end.
        attempt: Which answer to the question it was in, counted from 0.
        seed: That the answer was given with.
        by: The name in `others` of where it comes from; "" for the base's `llm` or `vqa`.
    """

    text: Annotated[Line, Field(min_length=8)]
    clip_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)]
    attempt: Annotated[int, Field(ge=0)] | None = None
    seed: int | None = None
    by: Line = ""


class ImageTexts(_Part):
    """The descriptions of an image.

    Args:
        image_sha256: Of the image's file.
        label: 1 for an anomalous image, 0 for a normal one.
        status: "ok" for accepted descriptions, "no_anomaly" where the model saw none, "rejected" where no description
            was usable, "error" where no answer came.
        descriptions: None but where the status is "ok".
    """

    image_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    label: Literal[0, 1]
    status: Literal["ok", "no_anomaly", "rejected", "error"]
    descriptions: list[Text]


class ClassTexts(_Part):
    """The descriptions of a class.

    Args:
        display_name: As sentences call it.
        llm: Descriptions of anomalous images of it.
        vqa: Answers about images, by path relative to the dataset's root, with slashes.
        background: What a normal image shows; kept for readers, not encoded.
    """

    display_name: Name
    background: Line = ""
    llm: Annotated[list[Text], Field(min_length=1)]
    vqa: dict[Name, ImageTexts]


class Knowledge(_Part):
    """A knowledge base.

    Args:
        schema_version: 1.
        dataset: What the classes are of.
        created: Date and time, ISO 8601.
        llm: Where the descriptions of classes come from.
        vqa: Where the descriptions of images come from.
        n: Descriptions asked for a class.
        m: Descriptions asked for an image.
        classes: By name.
        others: Further origins, by the name that texts have in `by`.
    """

    schema_version: Literal[1]
    dataset: Line
    created: Line = ""
    llm: Generator
    vqa: Generator
    n: Annotated[int, Field(ge=1)]
    m: Annotated[int, Field(ge=0)]
    classes: Annotated[dict[Name, ClassTexts], Field(min_length=1)]
    others: dict[Name, Generator] = {}
