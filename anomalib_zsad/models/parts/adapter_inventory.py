"""Which adapters are known or on this machine, where, and whether they are what they should be."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from anomalib_zsad.clip.backbone_inventory import Held, State
from anomalib_zsad.clip.digest import check_digest, hash_file
from anomalib_zsad.clip.hub import SCHEME
from anomalib_zsad.clip.known_weights import hub_digest
from anomalib_zsad.clip.weights import home
from anomalib_zsad.models.parts.adapter_file import read_metadata
from anomalib_zsad.models.parts.publication import Publication
from anomalib_zsad.models.parts.weights_source import CARRIED, CONFIG, WEIGHTS, check_folder, method_of

_METHOD_UNKNOWN = "adapter"


def published(publications: Mapping[str, Publication]) -> list[Held]:
    """List the published adapters of a method.

    Args:
        publications: By the name for `weights=`.
    """
    return [_published(name, each) for name, each in publications.items()]


def carried() -> list[Held]:
    """List the repositories of the hub that were brought to `home()` for use without a network."""
    folders = (path for path in sorted((home() / CARRIED).glob("*")) if path.is_dir() and not path.name.startswith("."))
    return [_folder(f"{SCHEME}{path.name.replace('--', '/', 1)}", path) for path in folders]


def others() -> list[Held]:
    """List the adapter files and the folders of `save_pretrained` that lie in `home()`, by their paths."""
    return [*_files(), *(_folder(str(path.parent), path.parent) for path in sorted(home().glob(f"*/{CONFIG}")))]


def cached() -> list[Held]:
    """List the repositories in the hub's cache that hold a model of this package, each revision by itself."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    models = (repo for repo in repos if repo.repo_type == "model")
    return [held for repo in sorted(models, key=lambda each: each.repo_id) for held in _revisions(repo)]


def _published(name: str, publication: Publication) -> Held:
    adapter, use = publication.adapter(name), publication.method
    if adapter.is_file():
        return Held(name, use, adapter, adapter.stat().st_size, *_file_state(adapter))
    there = [file for file in publication.files if file.is_file()]
    if not there:
        return Held(name, use, None, 0, "absent", f"licence: {publication.licence or 'none stated'}")
    size = sum(file.stat().st_size for file in there)
    try:
        for file in there:
            publication.check(file, publication.files[file], file)
    except ValueError as error:
        return Held(name, use, file, size, "wrong content", _reason(error))
    if len(there) < len(publication.files):
        missing = ", ".join(file.name for file in publication.files if not file.is_file())
        return Held(name, use, there[0].parent, size, "partial", f"{missing} is missing")
    return Held(name, use, there[0].parent, size, "complete", "converted on first use")


def _files() -> Iterator[Held]:
    for path in sorted(home().glob("*.safetensors")):
        try:
            method = read_metadata(path)["method"]
        except ValueError as error:
            yield Held(str(path), _METHOD_UNKNOWN, path, path.stat().st_size, "wrong content", _reason(error))
            continue
        yield Held(str(path), method, path, path.stat().st_size, "complete")


def _folder(name: str, folder: Path, note: str = "") -> Held:
    files = [folder / each for each in (CONFIG, WEIGHTS)]
    size = sum(file.stat().st_size for file in files if file.is_file())
    state, reason = _folder_state(folder, files)
    return Held(name, method_of(folder) or _METHOD_UNKNOWN, folder, size, state, reason or note)


def _folder_state(folder: Path, files: list[Path]) -> tuple[State, str]:
    if missing := [file.name for file in files if not file.is_file()]:
        return "partial", f"{', '.join(missing)} is missing"
    try:
        check_folder(folder)
        weights = files[-1]
        check_digest(weights, hash_file(weights), hub_digest(weights))
    except (OSError, ValueError) as error:
        return "wrong content", _reason(error)
    return "complete", ""


def _file_state(path: Path) -> tuple[State, str]:
    try:
        read_metadata(path)
    except ValueError as error:
        return "wrong content", _reason(error)
    return "complete", ""


def _revisions(repo: Any) -> Iterator[Held]:  # of a CachedRepoInfo
    for revision in sorted(repo.revisions, key=lambda each: each.commit_hash):
        if method_of(revision.snapshot_path) is None:
            continue  # of another library
        refs = sorted(revision.refs) or [revision.commit_hash]
        name = f"{SCHEME}{repo.repo_id}" + ("" if "main" in refs else f"@{refs[0]}")
        yield _folder(name, revision.snapshot_path)


def _reason(error: Exception) -> str:
    """Leave out the path that a message starts with: it has a column of its own."""
    return str(error).partition(": ")[2] or str(error)
