"""Messages about the data of one part say which."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from compressors.errors import UserError
from evaluators.tasks.specification import PartSpec

__all__ = ["told_of"]

_KEY = re.compile(rf"data(?=:|\.({'|'.join(PartSpec.model_fields)})\b)")


@contextmanager
def told_of(part: str) -> Iterator[None]:
    """Of what a part may say itself, ``data.KEY`` becomes ``data.parts.PART.KEY``; what is said beside the parts is told as it is.

    Raises:
        UserError: as it was raised, so told.
    """
    try:
        yield
    except UserError as error:
        raise UserError(_KEY.sub(f"data.parts.{part}", str(error), count=1) if _KEY.match(str(error)) else f"{error} (data.parts.{part})") from error
