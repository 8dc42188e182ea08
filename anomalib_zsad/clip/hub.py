"""Files of repositories on the Hugging Face hub, through its own client: endpoint, cache, tokens and offline mode."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEME = "hf://"
"""What the names of repositories on the hub start with."""

_NOT_ALLOWED = {401, 403}
_REVISION = re.compile(r"[0-9A-Za-z_][\w.+/-]*", re.ASCII)


class MissingEntryError(FileNotFoundError):
    """A repository is there and does not have the file."""


@dataclass(frozen=True)
class HubName:
    """A repository on the hub, at a revision.

    Args:
        repo: "user/name".
        revision: A branch, a tag or a commit. None: its main branch.

    Raises:
        ValueError: If the hub allows no such name.
    """

    repo: str
    revision: str | None = None

    def __post_init__(self) -> None:
        from huggingface_hub.utils import HFValidationError, validate_repo_id

        try:
            validate_repo_id(self.repo)
        except HFValidationError:
            msg = f"expected a repository of the hub such as {SCHEME}user/name, got {SCHEME + self.repo!r:.200}"
            raise ValueError(msg) from None
        # The client makes a path of the revision; git allows no ".." in one, either.
        if self.revision is not None and (not _REVISION.fullmatch(self.revision) or ".." in self.revision):
            msg = f"{SCHEME}{self.repo}: expected a branch, a tag or a commit, got the revision {self.revision!r:.200}"
            raise ValueError(msg)

    @classmethod
    def of(cls, name: str) -> "HubName":
        """Read `hf://user/name[@revision]`."""
        repo, at, revision = name.removeprefix(SCHEME).partition("@")
        return cls(repo, revision if at else None)

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}" + ("" if self.revision is None else f"@{self.revision}")


def hub_file(name: HubName, file: str, **options: Any) -> Path:
    """Bring a file of a repository into the hub's cache, where it is not there already.

    Args:
        name: The repository.
        file: Its name there; must not come from outside.
        **options: `token`, `cache_dir`, `force_download` and `local_files_only`, as in `hf_hub_download`.

    Returns:
        The file in the cache: `.../snapshots/<commit>/<file>`.

    Raises:
        MissingEntryError: If the repository does not have it.
        ConnectionError: If it cannot be had; the message is the reason alone.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name.repo, file, revision=name.revision, **options))
    except LocalEntryNotFoundError as error:
        raise ConnectionError(_unreachable(options)) from error
    except EntryNotFoundError as error:
        msg = f"there is no {file}"
        raise MissingEntryError(msg) from error
    except Exception as error:  # the classes of the hub's errors change with its version and its HTTP library
        raise ConnectionError(reason_of(error, name)) from error


def cache_of(repo: str) -> Path:
    """Return where the hub's cache keeps a repository; nothing needs to be there."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def unfinished_in(repo: str) -> list[Path]:
    """List the downloads of a repository that broke off."""
    return sorted((cache_of(repo) / "blobs").glob("*.incomplete"))


def reason_of(error: Exception, name: HubName) -> str:
    """Return in one line why the hub refused."""
    from huggingface_hub.utils import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):  # one of the next kind, too
        return (
            "its owner grants access on request only: ask for it on the hub, then log in (hf auth login, or HF_TOKEN)"
        )
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such repository, or it is private: then log in (hf auth login, or HF_TOKEN)"
    if isinstance(error, RevisionNotFoundError):
        return f"the repository has no revision {name.revision}"
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"{reason}: log in (hf auth login, or HF_TOKEN)" if status in _NOT_ALLOWED else reason


def _unreachable(options: dict[str, Any]) -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "it is not in the hub's cache, and HF_HUB_OFFLINE is set"
    if options.get("local_files_only"):
        return "it is not in the hub's cache, and local_files_only is set"
    return f"{constants.ENDPOINT} cannot be reached"
