"""What a node says about itself. Travels by value: nothing but the standard library may be needed to start it."""

from __future__ import annotations

__all__ = ["gpu_memory", "looked_up"]


def looked_up() -> dict[str, str]:
    """Versions by package, see ``search.cluster_code.identity``; or ``problem``: why the code cannot be imported."""
    try:
        import search.stages  # noqa: F401 - whether it can be imported is the question
        from search.cluster_code import identity
    except Exception as error:  # noqa: BLE001 - whatever keeps it from being imported is what is asked for
        return {"problem": f"cannot import compareto ({type(error).__name__}: {error})"}
    return {**identity(), "gpu_memory": str(gpu_memory())}


def gpu_memory() -> int:
    """Bytes of the smallest GPU of this machine, 0 where its driver knows none."""
    import subprocess

    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(  # noqa: S603 - nothing in it is given
            command, capture_output=True, text=True, check=True, timeout=60
        ).stdout
        return min((int(line) * 2**20 for line in said.splitlines() if line.strip()), default=0)
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0
