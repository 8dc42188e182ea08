"""Models in folders and on the Hugging Face hub, called and laid out as huggingface_hub's `ModelHubMixin` does it.

That mixin itself does not fit: it passes all of config.json to the constructor, takes its arguments from the call
instead of the trained record, and writes into the folder file by file.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from anomalib_zsad import arguments as arg
from anomalib_zsad.atomic import replace_together, unfinished_folder
from anomalib_zsad.clip.hub import SCHEME, HubName, reason_of
from anomalib_zsad.models.parts import settings
from anomalib_zsad.models.parts.model_card import model_card
from anomalib_zsad.models.parts.publication import PREFIX
from anomalib_zsad.models.parts.record import Record
from anomalib_zsad.models.parts.trained_weights import save_trained
from anomalib_zsad.models.parts.weights_source import CARD, CONFIG, WEIGHTS, fetched_repository, repository


class HubFolders:
    """Let a model with an argument `weights` be saved as a folder or a repository of the hub, and be built of one."""

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
        chosen = {key: value for key, value in options.items() if value}
        found = _hub_name(name, revision)
        folder = fetched_repository(found, **chosen) if chosen else repository(found)
        return cls(weights=str(folder), **arguments).eval()  # type: ignore[call-arg,attr-defined]

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        repo_id: str | None = None,
        license: str | None = None,  # the hub's name
    ) -> None:
        """Write what was learnt, the record and a model card into a folder, whole or not at all.

        Names of files that the record holds, such as those of reference images, are written without their folders.

        Args:
            save_directory: Made where it is missing; files of the same names are replaced.
            repo_id: The repository that the folder is for, for the commands of its card.
            license: An identifier of the hub, such as "apache-2.0", for the card.

        Raises:
            OSError: If it cannot be written.
            ValueError: If nothing was trained.
        """
        _check_takes_weights(type(self))
        self._module.check_exportable()
        folder = Path(save_directory)
        if folder.exists() and not folder.is_dir():
            msg = f"{folder}: expected a folder to save the model to, got a file"
            raise FileExistsError(msg)
        weights = folder.resolve().name if repo_id is None else str(HubName(repo_id))
        record = _without_folders(self._module.record())
        card = _card(self._module, record, weights, license)
        with unfinished_folder(folder if folder.is_dir() else folder.parent) as temporary:
            save_trained(self, temporary / WEIGHTS, record)
            (temporary / CARD).write_text(card, encoding="utf-8")
            (temporary / CONFIG).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            replace_together([temporary / name for name in (CARD, WEIGHTS, CONFIG)], folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Push model using anomalib_zsad",
        private: bool | None = None,
        token: str | bool | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
        license: str | None = None,  # the hub's name
    ) -> str:
        """Save the model to a repository on the Hugging Face hub, in one commit.

        Args:
            repo_id: "user/name"; made where it is missing.
            commit_message: Of the commit.
            private: Whether a repository that is made is private. None: as the hub has it.
            token: With the right to write. None: that of `hf auth login` or HF_TOKEN.
            branch: Where the commit goes. None: the main branch.
            create_pr: Whether to open a pull request with it.
            license: As in `save_pretrained`.

        Returns:
            The url of the commit.

        Raises:
            OSError: If the hub cannot be reached or refuses.
            ValueError: If nothing was trained, or the hub allows no such name.
        """
        from huggingface_hub import HfApi

        name = HubName(repo_id.removeprefix(SCHEME), branch)
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, repo_id=name.repo, license=license)
            api = HfApi(token=token)
            try:
                repo = api.create_repo(name.repo, private=private, exist_ok=True).repo_id
                commit = api.upload_folder(
                    repo_id=repo,
                    folder_path=folder,
                    commit_message=commit_message,
                    revision=branch,
                    create_pr=create_pr,
                )
            except Exception as error:  # the classes of the hub's errors change with its version and its HTTP library
                msg = f"{name} cannot be pushed: {reason_of(error, name)}"
                raise ConnectionError(msg) from error
        return commit.commit_url

    @property
    def _module(self) -> Any:  # this mixin is always mixed into an AnomalibModule
        return self


def _card(module: Any, record: Record, weights: str, licence: str | None) -> str:
    evaluator, built_of = module.evaluator, str(module.hparams.get("weights"))
    found = module.published.get(built_of)
    others = settings.chosen(type(module), settings.settings_of(module)).items()
    return model_card(
        record,
        weights,
        results=getattr(evaluator, "table", None),
        tested_on=getattr(evaluator, "tested_on", ()),
        settings={name: value for name, value in others if name not in {"backbone", "pretrained"}},
        licence=licence,
        started_from=f"{built_of} (licence: {found.licence or 'none stated'})" if found else None,
    )


def _without_folders(record: Record) -> Record:
    """Reduce paths of this machine to the names of the files."""
    backbone: Any = record["backbone"]
    named: Any = {
        "settings": settings.without_folder(record["settings"]),
        "backbone": settings.without_folder(backbone),
    }
    found: Record = {**record, **named}
    if (memory := record.get("memory_of")) is not None:
        given = memory["reference"]
        reference = [Path(each).name for each in given] if isinstance(given, list) else given and Path(given).name
        references = [Path(each).name for each in memory["references"]]
        found["memory_of"] = {**memory, "reference": reference, "references": references}
    if (calibration := record["thresholds"].get("calibration")) is not None:
        source = ", ".join(Path(each).name for each in calibration["source"].split(", "))
        found["thresholds"] = {**record["thresholds"], "calibration": {**calibration, "source": source}}
    return found


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
