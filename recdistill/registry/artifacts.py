"""Files in MLflow's artefact store, by path: list, send, take, delete. A local folder and a server look the same.

MLflow's client can send files to a run, but it cannot delete any. So this room uses what the client itself uses: an
artefact repository. There is one for each kind of place.

It knows nothing of bundles or versions.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     artifacts = Artifacts(Path(folder).as_uri(), tracking_uri="sqlite:///unused")
    ...     file = Path(folder, "letter.txt")
    ...     _ = file.write_text("hello")
    ...     artifacts.send(file, "post/today")
    ...     artifacts.sizes("post/today")
    {'letter.txt': 5}
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mlflow.entities import FileInfo

_ATTEMPTS: Final = 3


class Artifacts:
    """One place in the artefact store. Methods raise what MLflow raises: callers stand inside `Connection.talk`.

    Args:
        uri: Where it is: `file://…`, `mlflow-artifacts:/…`, `s3://…` or whatever else MLflow has a repository for.
        tracking_uri: The server through which `mlflow-artifacts:` goes.
    """

    def __init__(self, uri: str, tracking_uri: str) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        self._repository = get_artifact_repository(uri, tracking_uri=tracking_uri)

    def sizes(self, folder: str) -> dict[str, int]:
        """Name and bytes of each file in a folder; empty when there is no such folder."""
        return {PurePosixPath(f.path).name: int(f.file_size or 0) for f in self._list(folder) if not f.is_dir}

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder."""
        return [PurePosixPath(f.path).name for f in self._list(folder) if f.is_dir]

    def send(self, file: Path, folder: str, name: str | None = None) -> None:
        """Puts a local file into a folder, under another name if one is given. What is there is written over."""
        if name is None or name == file.name:
            self._repository.log_artifact(str(file), folder)
            return
        # MLflow takes the name from the local file.
        with tempfile.TemporaryDirectory() as scratch:
            link = Path(scratch, name)
            link.symlink_to(file.absolute())
            self._repository.log_artifact(str(link), folder)

    def take(self, path: str, into: Path) -> None:
        """Writes a file of the store to `into`, a local file."""
        with tempfile.TemporaryDirectory(dir=into.parent, prefix=".take-") as scratch:
            Path(self._repository.download_artifacts(path, scratch)).rename(into)

    def delete(self, path: str) -> None:
        """Takes a file or a folder away; nothing if it is not there."""
        folder, name = str(PurePosixPath(path).parent), PurePosixPath(path).name
        if any(PurePosixPath(f.path).name == name for f in self._list(folder)):
            self._repository.delete_artifacts(path)

    def _list(self, folder: str) -> list[FileInfo]:
        for _ in range(_ATTEMPTS):
            # MLflow lists a local folder and then asks for each size. It fails when a file is deleted in between.
            with contextlib.suppress(FileNotFoundError):
                return list(self._repository.list_artifacts(folder))
        return list(self._repository.list_artifacts(folder))
