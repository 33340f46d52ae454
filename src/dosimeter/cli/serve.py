"""``dosimeter serve``: a model as a service behind defences, and the keys of those who may ask it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dosimeter.cli.options import AsJson, Trust

if TYPE_CHECKING:
    from dosimeter.server.keys import KeyStore
    from dosimeter.server.run import Service
    from dosimeter.server.spec import ServiceSpec


def serve(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="Spec of the service.")],
    new_key: Annotated[
        str | None, typer.Option("--new-key", metavar="NAME", help="Make a key, show it once, and end.")
    ] = None,
    quota: Annotated[
        int | None, typer.Option("--quota", min=1, help="With --new-key: records it may ask in all.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option("--requests-per-minute", min=1, help="With --new-key: how fast it may ask.")
    ] = None,
    for_metrics: Annotated[
        bool, typer.Option("--for-metrics", help="With --new-key: it reads /metrics and nothing else.")
    ] = False,
    revoke: Annotated[
        str | None, typer.Option("--revoke", metavar="NAME", help="Refuse a key from now on, and end.")
    ] = None,
    keys: Annotated[bool, typer.Option("--keys", help="List names and usage of the keys, and end.")] = False,
    threads: Annotated[
        int,
        typer.Option(
            min=1, envvar="DOSIMETER_THREADS", help="Threads of the model; more can help large ones."
        ),
    ] = 1,
    trust: Trust = False,
    as_json: AsJson = False,
) -> int:
    """Serve a model behind defences, with keys and limits."""
    from dosimeter.server.run import require_server
    from dosimeter.server.spec import load_service

    chosen = [
        name for name, given in (("--new-key", new_key), ("--revoke", revoke), ("--keys", keys)) if given
    ]
    if len(chosen) > 1:
        raise typer.BadParameter(f"give {' or '.join(chosen)}, one at a time.")
    if new_key is None and (quota is not None or requests_per_minute is not None or for_metrics):
        raise typer.BadParameter("--quota, --requests-per-minute and --for-metrics belong to --new-key.")
    loaded = load_service(spec, trust=trust)
    if chosen:
        from dosimeter.server.keys import KeyStore

        store = KeyStore(loaded.keys_file)
        if new_key is not None:
            made = store.new(
                new_key,
                role="metrics" if for_metrics else "ask",
                quota=quota,
                requests_per_minute=requests_per_minute,
            )
            _show_key(new_key, made, as_json)
        elif revoke is not None:
            store.revoke(revoke)
            _say({"revoked": revoke}, f"The key '{revoke}' is refused from now on.", as_json)
        else:
            _list_keys(store, loaded, as_json)
        store.close()
        return 0
    require_server()
    return _serve(loaded, threads, as_json)


def _serve(spec: ServiceSpec, threads: int, as_json: bool) -> int:
    from dosimeter.cli.display import print_text, reporting
    from dosimeter.study.threads import pinned

    with reporting(), pinned(threads):
        from dosimeter.server.run import Service

        service = Service.of(spec)
        address = service.listen()
        _announce(spec, service, address, as_json)
        drained = service.run()
    if not as_json:
        print_text("Stopped." if drained else "Stopped at once; requests may have been cut off.")
    return 0 if drained else 130


def _show_key(name: str, key: str, as_json: bool) -> None:
    from dosimeter.cli.display import print_entry, print_json

    if as_json:
        print_json({"name": name, "key": key})
        return
    print_entry("Key", key)
    print_entry(
        "Note", f"This is the only time that the key '{name}' is shown; the service keeps a digest of it."
    )


def _say(document: dict[str, Any], text: str, as_json: bool) -> None:
    from dosimeter.cli.display import print_json, print_text

    print_json(document) if as_json else print_text(text)


def _list_keys(store: KeyStore, spec: ServiceSpec, as_json: bool) -> None:
    from datetime import UTC, datetime

    from dosimeter.cli.display import print_json, print_table

    listed = [
        {
            "name": key.name,
            "role": key.role,
            "made": datetime.fromtimestamp(key.made_at, UTC).isoformat(timespec="seconds"),
            "revoked": key.revoked_at is not None,
            "used": key.used,
            "quota": key.quota or spec.server.quota,
            "requests_per_minute": key.requests_per_minute or spec.server.requests_per_minute,
        }
        for key in store.list()
    ]
    if as_json:
        print_json(listed)
        return
    columns = ["name", "role", "made", "revoked", "used", "quota", "requests_per_minute"]
    rows = [
        ["yes" if row[c] is True else "" if row[c] is False else row[c] for c in columns] for row in listed
    ]
    print_table(f"{spec.name}: keys", ["name", "role", "made", "revoked", "used", "quota", "a minute"], rows)


def _announce(spec: ServiceSpec, service: Service, address: str, as_json: bool) -> None:
    """Where the service listens, what stands between it and its clients, and how to ask and to attack it."""
    from dosimeter.cli.display import print_entry, print_json, print_text
    from dosimeter.loading.sources import size_text
    from dosimeter.report.wording import number_text
    from dosimeter.server.greeting import curl_line, target_snippet, target_yaml

    target, limits = service.target, spec.server
    names = [key.name for key in service.keys.list() if key.revoked_at is None]
    if as_json:
        print_json(
            {"name": spec.name, "address": address, "keys": names, "target": target_snippet(target, address)}
        )
        _flush()
        return
    print_entry("Service", f"{spec.name}: {target.modality} -> {target.returns}", width=10)
    print_entry("Listens", address, width=10)
    print_entry("Defences", ", ".join(method.label for method in spec.defenses) or "none", width=10)
    quota = "no limit of" if limits.quota is None else number_text(limits.quota)
    print_entry(
        "Limits",
        f"per key {number_text(limits.requests_per_minute)} requests a minute and {quota} records in all; per request "
        f"{limits.max_batch} records and {size_text(limits.max_body_bytes)}",
        width=10,
    )
    none = f"none yet; make one: dosimeter serve {spec.origin.path} --new-key NAME"
    print_entry("Keys", ", ".join(names) or none, width=10)
    print_entry("Log", f"{spec.audit_file}, without content", width=10)
    if not limits.is_local and limits.tls_certificate is None:
        print_entry(
            "Note", "others can read keys and content on the way: give tls_certificate and tls_key", width=10
        )
    print_text()
    print_text("Ask it (export DOSIMETER_KEY=... first):")
    print(f"  {curl_line(target, address)}")
    print_text("Attack it, as the target of an audit spec:")
    print("\n".join(f"  {line}" for line in target_yaml(target, address).splitlines()))
    _flush()


def _flush() -> None:
    import sys

    sys.stdout.flush()
