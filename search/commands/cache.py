"""``compareto cache``: what the cache of stages holds, whether it is whole, and how it gets smaller."""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from search.commands.arguments import Subparsers, add_command

if TYPE_CHECKING:
    from search.cache import Cache, Store
    from search.cache.entry import Entry

__all__ = ["register", "run"]


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "cache",
        run,
        "show the cache of computed stages, check it, or make it smaller",
        "compareto cache prune --older-than 30d --size 5GB --dry-run",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what it holds, by kind of stage and by model, and its limit")
    listing.add_argument("--format", choices=("table", "json"), default="table", help="table (default) or json")
    verify = actions.add_parser("verify", help="read every entry and name the corrupt ones; exits 1 where there is any")
    verify.add_argument("--remove", action="store_true", help="remove them: they are computed again when they are needed")
    prune = actions.add_parser("prune", help="remove what was not used for long, the least recently used beyond a size, and what writers that died have left")
    prune.add_argument("--older-than", metavar="TIME", help="entries that were not used for this long, such as 30d or 12h")
    prune.add_argument("--size", metavar="SIZE", help="the least recently used, until this much is left, such as 5GB")
    prune.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    for action in (listing, verify, prune):
        action.add_argument("--cache", metavar="PLACE", help="a folder or URI (default: COMPARETO_CACHE, else ~/.cache/compareto)")
        action.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Dispatch on the action."""
    from search.cache import Cache
    from search.quantities import parse_bytes, parse_seconds

    older = parse_seconds(args.older_than, "--older-than") if args.action == "prune" and args.older_than is not None else None
    size = parse_bytes(args.size, "--size") if args.action == "prune" and args.size is not None else None
    cache = Cache(args.cache)
    if args.action == "list":
        return _list(cache, args.format)
    if args.action == "verify":
        return max([_verify(place, store, remove=args.remove) for place, store in cache.stores.items()])
    for place, store in cache.stores.items():
        _prune(place, store, older, size, dry=args.dry_run)
    return 0


def _list(cache: Cache, form: str) -> int:
    found = {place: list(store.entries()) for place, store in cache.stores.items()}
    if form == "json":
        plain = {
            place: {
                "entries": len(entries),
                "bytes": _bytes(entries),
                "limit_bytes": cache.limit if place == str(cache.root) else None,
                "kinds": {kind: {"entries": len(some), "bytes": _bytes(some)} for kind, some in _by(entries, "kind").items()},
                "models": {model: {"entries": len(some), "bytes": _bytes(some)} for model, some in _by(entries, "model").items()},
            }
            for place, entries in found.items()
        }
        print(json.dumps(plain, indent=1))
        return 0
    for i, (place, entries) in enumerate(found.items()):
        print("" if i == 0 else "\n", end="")
        limit = f"limit {cache.limit_text}, COMPARETO_CACHE_LIMIT" if place == str(cache.root) else "no limit of compareto's"
        print(f"{place}: {_counted(entries)} ({limit})")
        if entries:
            created = [entry.created for entry in entries if entry.kind != "corrupt"] or [0.0]
            print(f"oldest {_when(min(created))}, newest {_when(max(created))}")
            _table("stage", _by(entries, "kind"))
            _table("model", _by(entries, "model"))
    if cache.complaint:
        print(cache.complaint)
    return 0


def _table(heading: str, groups: dict[str, list[Entry]]) -> None:
    from search.quantities import format_bytes

    width = max(len(heading), *map(len, groups))
    print(f"\n{heading:<{width}}  entries       size  last used")
    for name, entries in groups.items():
        print(f"{name:<{width}}  {len(entries):>7}  {format_bytes(_bytes(entries)):>9}  {_when(max(e.used for e in entries))}")


def _verify(place: str, store: Store, *, remove: bool) -> int:
    checked, corrupt = 0, 0
    for entry in store.entries():
        fault = store.fault(entry.key)
        checked += 1
        if fault:
            corrupt += 1
            print(f"{entry.key} ({entry.kind}): {fault}{'; removed' if remove else ''}")
            if remove:
                store.remove(entry.key)
    hint = "" if remove or not corrupt else "; they are removed with --remove, or when they are needed, and computed again"
    print(f"{place}: {checked} checked, {corrupt} corrupt{hint}")
    return int(bool(corrupt))


def _prune(place: str, store: Store, older: float | None, size: int | None, *, dry: bool) -> None:
    from search.cache.size_limit import IN_USE_S
    from search.quantities import format_bytes

    entries = sorted(store.entries(), key=lambda entry: entry.used)
    now, left = time.time(), _bytes(entries)
    gone: list[Entry] = []
    kept = 0
    for entry in entries:
        if not ((older is not None and now - entry.used > older) or (size is not None and left > size)):
            continue
        if now - entry.used < IN_USE_S:
            kept += 1
            continue
        gone.append(entry)
        left -= entry.bytes
        if not dry:
            store.remove(entry.key)
    leftovers = list(store.leftovers())
    for leftover in leftovers:
        if not dry:
            store.sweep(leftover)
    verb = "would be removed" if dry else "removed"
    print(f"{place}: {_counted(gone)} {verb}; {len(entries) - len(gone)} left, {format_bytes(left)}")
    if leftovers:
        print(f"left behind by writers that died: {len(leftovers)}, {format_bytes(sum(leftover.bytes for leftover in leftovers))}, {verb}")
    if kept:
        print(f"{kept} of them used within the last hour, and kept for that")


def _by(entries: Iterable[Entry], name: str) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[getattr(entry, name) or "unknown"].append(entry)
    return dict(sorted(groups.items()))


def _bytes(entries: Iterable[Entry]) -> int:
    return sum(entry.bytes for entry in entries)


def _counted(entries: list[Entry]) -> str:
    from search.quantities import format_bytes

    return f"{len(entries)} entr{'y' if len(entries) == 1 else 'ies'}, {format_bytes(_bytes(entries))}"


def _when(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"
