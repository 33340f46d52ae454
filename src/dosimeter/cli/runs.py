"""``dosimeter runs``: what the store holds."""

from __future__ import annotations

from dosimeter.cli.options import AsJson, HomeFolder, StoreUrl, open_home, open_store


def runs(home: HomeFolder = None, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """List the runs in the store, newest first."""
    from dosimeter.cli.display import print_json, print_table, print_text
    from dosimeter.report.wording import seconds_text

    records = open_store(open_home(home), store).runs()
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
        print_text("No runs yet; 'dosimeter audit' makes one.")
        return
    print_table(
        "",
        ["run", "name", "verdict", "started (UTC)", "time", "reports"],
        [
            [
                record.id,
                record.name,
                record.verdict or "unfinished",
                record.started.replace("T", " ").removesuffix("+00:00"),
                seconds_text(record.seconds),
                record.out,
            ]
            for record in records
        ],
    )
