"""A model behind HTTP: POST an image, get its score, decision, p-value and map."""

from base64 import b64encode
from io import BytesIO
from typing import Annotated

from anyio import CapacityLimiter, fail_after, to_thread
from fastapi import FastAPI, HTTPException, Query, Request
from PIL import Image
from pydantic import BaseModel

from anomalib_zsad._version import __version__
from anomalib_zsad.data.reading import decode_image
from anomalib_zsad.line.scorer import Scored, Scorer
from anomalib_zsad.printing import printable

_UPLOAD_SECONDS = 60.0


class Answer(BaseModel):
    """The result for an image."""

    score: float
    """0.5 is the threshold."""
    label: str | None
    """normal or anomalous; null: the model has no threshold."""
    p_value: float | None
    """null: the model is not calibrated."""
    anomaly_map: str | None = None
    """On request: a grey PNG in base64; 127 is the highest value below the threshold of pixels."""


class Health(BaseModel):
    """The state of the server, and its model."""

    status: str
    model: str
    digest: str
    version: str
    calibrated_on: str | None


def app_of(scorer: Scorer, max_bytes: int, max_pixels: int, max_waiting: int) -> FastAPI:
    """Make the application. Images are decoded in memory and scored one after the other; nothing is written.

    Args:
        scorer: The model.
        max_bytes: Of an image file.
        max_pixels: Of an image.
        max_waiting: Images that wait; further ones are refused with status 503.
    """
    app = FastAPI(title="anomalib-zsad", version=__version__)
    working, waiting = CapacityLimiter(2), CapacityLimiter(max_waiting + 2)  # one is decoded while one is scored

    @app.get("/health")
    async def health() -> Health:
        calibration = None if scorer.calibration is None else str(scorer.calibration)
        return Health(
            status="ok", model=scorer.name, digest=scorer.digest, version=__version__, calibrated_on=calibration
        )

    @app.post("/detect", openapi_extra={"requestBody": {"content": {"image/*": {}}, "required": True}})
    async def detect(request: Request, with_map: Annotated[bool, Query(alias="map")] = False) -> Answer:
        """Score the image that is the body of the request."""
        if waiting.available_tokens < 1:
            raise HTTPException(503, f"{max_waiting} images wait already", {"Retry-After": "1"})
        async with waiting:
            content = await _body(request, max_bytes)
            return await to_thread.run_sync(_answer, scorer, content, max_pixels, with_map, limiter=working)

    return app


async def _body(request: Request, max_bytes: int) -> bytes:
    content = bytearray()
    try:
        with fail_after(_UPLOAD_SECONDS):
            async for part in request.stream():
                content += part
                if len(content) > max_bytes:
                    raise HTTPException(413, f"expected an image file of at most {max_bytes} bytes, got more")
    except TimeoutError:
        raise HTTPException(408, f"expected a whole image within {_UPLOAD_SECONDS:g} s") from None
    return bytes(content)


def _answer(scorer: Scorer, content: bytes, max_pixels: int, with_map: bool) -> Answer:
    try:
        scored = scorer(decode_image(content, "The body of the request", max_pixels))
    except (OSError, ValueError) as error:
        raise HTTPException(400, printable(error)) from error
    anomaly_map = _png(scored) if with_map else None
    return Answer(score=scored.score, label=scored.label, p_value=scored.p_value, anomaly_map=anomaly_map)


def _png(scored: Scored) -> str:
    stream, levels = BytesIO(), (scored.anomaly_map.clip(0, 1) * 255).astype("uint8")
    Image.fromarray(levels).save(stream, "png")
    return b64encode(stream.getvalue()).decode()
