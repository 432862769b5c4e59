"""What a fine-tuned head calls its labels: the data's classes are numbered as the head was trained on them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compressors.errors import UserError
from compressors.silent_transformers import silent_transformers
from evaluators.hub import local_or_hub
from evaluators.model_spec import ModelSpec

__all__ = ["head_names", "names_in", "numbered_by", "require_order"]

_HEADED = re.compile("For(Sequence|Image|Audio|Token)Classification")
_TOLD = 20


def head_names(spec: ModelSpec, folder: Path) -> tuple[str, ...]:
    """Those of ``model.pretrained`` by number; none of a checkpoint without a head, or of a factory's model.

    Raises:
        UserError: the checkpoint cannot be read.
    """
    if spec.pretrained is None:
        return ()
    from transformers import AutoConfig

    with local_or_hub("model.pretrained", spec.pretrained, folder) as source, silent_transformers():
        options = {"revision": spec.revision} if spec.revision and source == spec.pretrained else {}
        return names_in(AutoConfig.from_pretrained(source, **options))


def names_in(config: Any) -> tuple[str, ...]:
    """Names of the labels of a head that is there, by number."""
    headed = any(_HEADED.search(a) for a in config.architectures or ())
    return tuple(str(config.id2label.get(i, f"LABEL_{i}")) for i in range(config.num_labels)) if headed else ()


def numbered_by(head: Sequence[str], names: Sequence[str], *, place: str | None = None) -> list[str]:
    """Names of classes in the order of a head that has them all, letter case aside; else as they are.

    Args:
        head: names of its labels, by number.
        names: those of the data.
        place: for the message, of data whose labels have no numbers of their own.

    Raises:
        UserError: of labels without numbers, the head has some and not others.
    """
    known = _known(head, names)
    if known and len(set(known.values())) == len(names):
        return sorted(names, key=lambda name: known[name])
    if known and place is not None:
        raise UserError(
            f"{place}: found {_told(names)}; the head of model.pretrained has {_told(head)}; accepted: names that are all the head's, or none of them"
        )
    return list(names)


def require_order(head: Sequence[str], names: Sequence[str]) -> None:
    """A name that both have has one number.

    Raises:
        UserError: it has two.
    """
    known = _known(head, names)
    for i, name in enumerate(names):
        if known.get(name, i) != i:
            both = f"the head has {_told(head)}, the data {_told(names)}"
            raise UserError(f"model.pretrained: {name!r} is label {known[name]} of the head and {i} of the data; {both}; accepted: one order")


def _known(head: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """The head's numbers of the names that it has; of numbers none, which are told apart by themselves."""
    if list(names) == [str(i) for i in range(len(names))]:
        return {}
    exact, folded = ({change(name): i for i, name in enumerate(head)} for change in (str, str.casefold))
    return {name: exact.get(name, folded[name.casefold()]) for name in names if name.casefold() in folded}


def _told(names: Sequence[str]) -> str:
    return ", ".join(names[:_TOLD]) + ", ..." * (len(names) > _TOLD)
