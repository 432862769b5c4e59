"""``compareto serve``: exported artifacts behind HTTP, on Ray Serve."""

from __future__ import annotations

import argparse

from search.commands.arguments import Subparsers, add_command

__all__ = ["register", "run"]


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "serve",
        run,
        "serve exported artifacts over HTTP, on Ray Serve",
        "compareto serve intents:1=fp32@0.9 intents:2=small@0.1 --port 8000 --rate 200\n  compareto serve --compare fp32 small --seconds 20",
    )
    parser.add_argument("artifacts", metavar="DIR", nargs="+", help="[NAME[:VERSION]=]DIR[@WEIGHT]; versions of a name share its requests by their weights")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen to (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument("--replicas", type=int, default=1, metavar="N", help="processes of each artifact (default: 1)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of each replica (default: the machine's cores, shared by its replicas)")
    parser.add_argument("--provider", default="cpu", help="of ONNX Runtime, such as cuda (default: cpu)")
    parser.add_argument("--max-batch", type=int, default=16, metavar="N", help="inputs that a replica runs at once (default: 16)")
    parser.add_argument("--max-wait-ms", type=float, default=2.0, metavar="MS", help="that an input waits for others (default: 2)")
    parser.add_argument("--rate", type=float, metavar="R", help="requests a second; more are answered with 429 (default: any number)")
    parser.add_argument("--burst", type=int, default=32, metavar="N", help="requests that may come at once beyond --rate (default: 32)")
    parser.add_argument(
        "--max-waiting", type=int, default=128, metavar="N", help="requests that are under way or wait; more are answered with 429 (default: 128)"
    )
    parser.add_argument("--max-body", default="8MB", metavar="SIZE", help="of a request; more is answered with 413 (default: 8MB)")
    parser.add_argument("--max-inputs", type=int, default=256, metavar="N", help="of a request (default: 256)")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S", help="seconds until a request is given up (default: 30)")
    parser.add_argument("--compare", action="store_true", help="load two artifacts alike, by turns; print requests/s, latency and memory of both; stop")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="of load for each, with --compare (default: 20)")
    parser.add_argument("--concurrency", type=int, default=16, metavar="N", help="requests at a time, with --compare (default: 16)")
    parser.add_argument("--per-request", type=int, default=1, metavar="N", help="inputs of a request, with --compare (default: 1)")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="of what --compare prints; json is stable (docs/serving.md)")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; or compare."""
    from search.serving.requirements import require_serve

    require_serve()
    from search.quantities import parse_bytes
    from search.serving.served import Catalogue
    from search.serving.settings import ServingSettings

    settings = ServingSettings(
        host=args.host,
        port=args.port,
        replicas=args.replicas,
        threads=args.threads,
        provider=args.provider,
        max_batch=args.max_batch,
        max_wait_ms=args.max_wait_ms,
        rate=args.rate,
        burst=args.burst,
        max_waiting=args.max_waiting,
        max_body_bytes=parse_bytes(args.max_body, "--max-body"),
        max_inputs=args.max_inputs,
        timeout_s=args.timeout,
    )
    catalogue = Catalogue.load(args.artifacts)
    if args.compare:
        from search.serving.comparison import compare, comparison_json, comparison_lines

        found = compare(catalogue, settings, seconds=args.seconds, concurrency=args.concurrency, per_request=args.per_request)
        print(comparison_json(found) if args.format == "json" else "\n".join(comparison_lines(found)))
        return 0
    from search.serving.forever import serve_until_stopped

    serve_until_stopped(catalogue, settings, print)
    return 0
