"""`anomalib-zsad serve` under load: requests a second, latencies, and whether each request got its own answer.

    python benchmarks/serving.py                          # an untrained AF-CLIP over the small CLIP of the package
    python benchmarks/serving.py --model model.onnx       # an exported model
    python benchmarks/serving.py --clients 32 --requests 2000

The server is a process of its own on this machine. Each client sends one image after the other over one connection; the
images differ, and every answer is compared with the score that the same image had alone. The bare forward is the same
model called in a loop, without a server; the ratio is of the rates.
"""

import argparse
import asyncio
import io
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
from PIL import Image

IMAGES = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an exported model")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--size", type=int, default=400, help="of the images, pixels")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        model = options.model or small_model(Path(folder))
        images = [encoded(seed, options.size) for seed in range(IMAGES)]
        rate = bare_rate(model, images)
        port = free_port()
        words = [sys.executable, "-m", "anomalib_zsad", "serve", "--model", str(model), "--port", str(port)]
        server = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            measured = asyncio.run(load(f"http://127.0.0.1:{port}", images, options.clients, options.requests))
        finally:
            server.terminate()
            server.wait()
    seconds, latencies, wrong = measured
    served = len(latencies) / seconds
    print(
        f"{options.clients} clients, {options.requests} images of {options.size} px: {len(latencies)} answers,", end=" "
    )
    print(f"{options.requests - len(latencies)} lost, {wrong} wrong")
    print(f"{served:.1f} requests a second; bare {rate:.1f} images a second, ratio {served / rate:.2f}")
    for share in (50, 99):
        print(f"{share}th percentile {1000 * np.percentile(latencies, share):.0f} ms")


def small_model(folder: Path) -> Path:
    """Export AF-CLIP over the small CLIP: what it computes takes the same time as if it were trained."""
    from anomalib_zsad import AFClip

    model = AFClip(backbone="zsad-tiny").eval()
    model.trained_on = ["nothing"]
    return model.to_onnx(folder)


def encoded(seed: int, size: int) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 255, (size // 8, size // 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((size, size)).save(stream, "jpeg", quality=90)
    return stream.getvalue()


def bare_rate(model: Path, images: list[bytes]) -> float:
    """Images a second of the model alone: decoded beforehand, one after the other."""
    from anomalib_zsad.data.reading import decode_image
    from anomalib_zsad.line.scorer import Scorer

    scorer = Scorer.open(model)
    decoded = [decode_image(image, "an image") for image in images]
    scorer(decoded[0])
    began = time.perf_counter()
    for image in decoded:
        scorer(image)
    return len(decoded) / (time.perf_counter() - began)


async def load(address: str, images: list[bytes], clients: int, requests: int) -> tuple[float, list[float], int]:
    """Return the seconds that all took, the latency of each answer, and how many were another image's."""
    latencies: list[float] = []
    wrong = 0
    async with httpx.AsyncClient(base_url=address, timeout=120, trust_env=False) as client:
        await until_healthy(client)
        alone = [(await client.post("/detect", content=image)).json()["score"] for image in images]
        left = iter(range(requests))

        async def one_client() -> None:
            nonlocal wrong
            async with httpx.AsyncClient(base_url=address, timeout=120, trust_env=False) as own:
                for number in left:
                    began = time.perf_counter()
                    answer = await own.post("/detect", content=images[number % IMAGES])
                    if answer.status_code == httpx.codes.OK:
                        latencies.append(time.perf_counter() - began)
                        wrong += abs(answer.json()["score"] - alone[number % IMAGES]) > 1e-5

        began = time.perf_counter()
        await asyncio.gather(*(one_client() for _ in range(clients)))
        return time.perf_counter() - began, latencies, wrong


async def until_healthy(client: httpx.AsyncClient) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            await client.get("/health")
            return
        await asyncio.sleep(0.2)
    msg = "the server did not answer within two minutes"
    raise TimeoutError(msg)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
