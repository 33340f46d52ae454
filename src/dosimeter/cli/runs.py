"""``dosimeter runs``: what the store holds."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from dosimeter.cli.options import AsJson, HomeFolder, StoreUrl, open_home, open_store


def runs(home: HomeFolder = None, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """List the runs in the store, newest first."""
    from dosimeter.cli.display import print_json, print_table, print_text
    from dosimeter.report.wording import seconds_text

    state = open_home(home)
    # Looking makes nothing.
    records = []
    if store or state.store_file.exists():
        with closing(open_store(state, store)) as kept:
            records = kept.runs()
    if as_json:
        print_json(
            [
                {
                    "run": record.id,
                    "name": record.name,
                    "status": record.status,
                    "verdict": record.verdict,
                    "started": record.started,
                    "seconds": record.seconds,
                    "out": str(record.out),
                }
                for record in records
            ]
        )
        return
    if not records:
        print_text(f"No runs yet in {store or state.folder}; 'dosimeter audit' makes one.")
        return
    print_table(
        "",
        ["run (begun, UTC)", "name", "verdict", "time", "reports"],
        [
            [
                record.id,
                record.name,
                record.verdict or "unfinished",
                seconds_text(record.seconds) if record.seconds else None,
                _from_here(record.out),
            ]
            for record in records
        ],
    )


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
