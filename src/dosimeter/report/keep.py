"""Which files belong to a run, and bringing two places of them to the same: the output folder and a remote one."""

from __future__ import annotations

from pathlib import Path

from dosimeter.report.remote import RemoteFolder, UploadError
from dosimeter.study.grid import folder_of
from dosimeter.study.outcome import StudyOutcome


def cell_files(outcome: StudyOutcome, folder: Path) -> list[str]:
    """Files that the cells of ``outcome`` left in ``folder``, as paths from it; what other runs left there is not among
    them.
    """
    found = []
    for cell in outcome.cells:
        place = folder / "artifacts" / folder_of(cell.cell)
        found += [
            path.relative_to(folder).as_posix()
            for path in sorted(place.rglob("*"))
            if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
        ]
    return found


def send(outcome: StudyOutcome, reports: list[Path], folder: Path, remote: RemoteFolder) -> None:
    """Put the ``reports`` of ``outcome``, which lie in ``folder``, and the files of its cells into ``remote``.

    Raises:
        UploadError: they could not be sent, all of them.
    """
    remote.put(outcome.run, folder, [path.name for path in reports] + cell_files(outcome, folder))


def bring_together(
    outcome: StudyOutcome, reports: list[Path], folder: Path, remote: RemoteFolder
) -> list[Path]:
    """As :func:`send`; files of cells that are only in ``remote`` are fetched into ``folder``. Returns what was fetched.

    Raises:
        UploadError: as :func:`send`, or a result names a file that is in neither place.
    """
    there = remote.manifest(outcome.run)
    here = set(cell_files(outcome, folder))
    missing = [name for name in there if name.startswith("artifacts/") and name not in here]
    named = {artifact.path for cell in outcome.cells for artifact in cell.result.artifacts}
    lost = sorted(name for name in named - here - set(there) if name.startswith("artifacts/"))
    if lost:
        raise UploadError(
            f"the file {lost[0]} of run {outcome.run} is neither in {folder} nor at {remote.of(outcome.run)}. Give the "
            "folder that the run wrote into with --out, or run the audit again."
        )
    for name in missing:
        remote.get(outcome.run, name, there[name], folder)
    send(outcome, reports, folder, remote)
    return [folder / name for name in missing]
