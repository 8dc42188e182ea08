"""Models in folders and on the Hugging Face hub, called and laid out as huggingface_hub's `ModelHubMixin` does it.

That mixin itself does not fit: it passes all of config.json to the constructor, takes its arguments from the call
instead of the trained record, and writes into the folder file by file.
"""

from pathlib import Path
from typing import Any

from anomalib_zsad import arguments as arg
from anomalib_zsad.clip.hub import SCHEME, HubName
from anomalib_zsad.models.parts.publication import PREFIX
from anomalib_zsad.models.parts.weights_source import repository


class HubFolders:
    """Let a model with an argument `weights` be read from where such folders and repositories are."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        **arguments: Any,
    ) -> Any:
        """Build a trained model, ready to score.

        Args:
            pretrained_model_name_or_path: A folder of `save_pretrained`, an adapter file, the name of a published
                adapter ("released/visa"), or a repository on the Hugging Face hub ("user/name", which may also be
                written as "hf://user/name@revision").
            revision: A branch, a tag or a commit of the repository.
            token: For a private repository. None: that of `hf auth login` or HF_TOKEN.
            cache_dir: Of the hub's client. None: its own.
            force_download: Fetch the files again.
            local_files_only: Look into the cache alone.
            **arguments: Those of the class, which override what was saved.

        Raises:
            FileNotFoundError: If there is nothing of this name, or it cannot be fetched.
            ValueError: If it is damaged, of another method, or no name.
        """
        _check_takes_weights(cls)
        name = pretrained_model_name_or_path
        if Path(name).exists() or str(name).startswith(PREFIX):
            if revision is not None:
                msg = f"revision={revision!r}: expected a repository on the hub with it, got {str(name)!r}"
                raise ValueError(msg)
            return cls(weights=str(name), **arguments).eval()  # type: ignore[call-arg,attr-defined]
        options = {
            "token": token,
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
        }
        folder = repository(_hub_name(name, revision), **{key: value for key, value in options.items() if value})
        return cls(weights=str(folder), **arguments).eval()  # type: ignore[call-arg,attr-defined]


def _hub_name(name: str | Path, revision: str | None) -> HubName:
    try:
        found = HubName.of(str(name))
    except ValueError as error:
        msg = (
            f"expected a folder of save_pretrained, an adapter file, a published adapter or a repository of the hub, "
            f"got {str(name)!r}, which is none of these ({error})"
        )
        raise ValueError(msg) from None
    if found.revision is not None and revision not in {None, found.revision}:
        msg = f"revision={revision!r}: expected none beside {SCHEME}{found.repo}@{found.revision}"
        raise ValueError(msg)
    return HubName(found.repo, revision or found.revision)


def _check_takes_weights(kind: Any) -> None:
    if "weights" not in arg.of_runs(kind.__init__):
        msg = (
            f"{kind.__name__} has no trained weights of its own in a folder or on the hub: expected a checkpoint of it"
        )
        raise ValueError(msg)
