"""The body of a request, checked against the artifact's signature before any model sees it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from compressors.errors import near_miss
from search.raw_inputs import native_signature
from search.serving.request_error import RequestError, cut
from search.serving.served import Served

__all__ = ["Question", "validated"]

_KEYS = ("inputs", "top")


@dataclass(frozen=True, slots=True)
class Question:
    """A request that a replica can run.

    Attributes:
        inputs: texts, encoded images, or arrays by name.
        top: how many classes (tokens) of each input to name, the most probable first.
        count: of inputs.
    """

    inputs: list[str] | list[bytes] | dict[str, NDArray[Any]]
    top: int
    count: int


def validated(body: bytes, served: Served, max_inputs: int) -> Question:
    """What a body asks.

    Raises:
        RequestError: 400; names the key, the value and what is accepted.
    """
    plain = _json(body)
    if not isinstance(plain, dict):
        _refuse("the body is no JSON object", "", plain, _example(served))
    for key in plain:
        if key not in _KEYS:
            _refuse(f"unknown key {cut(key)!r}{near_miss(cut(key), _KEYS)}", cut(key), plain[key], ", ".join(_KEYS))
    if "inputs" not in plain:
        _refuse("the key 'inputs' is missing", "inputs", None, _example(served))
    classes = len(served.signature.get("labels", ()))
    most = classes or 100
    top = plain.get("top", 1)
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= most:
        _refuse("'top' is out of its range", "top", top, f"a whole number from 1 to {most}")
    inputs = plain["inputs"]
    if isinstance(inputs, dict):
        arrays = _arrays(inputs, served.signature["inputs"], native_signature(served.signature)["inputs"])
        count = len(next(iter(arrays.values())))
        _count(count, max_inputs)
        return Question(arrays, top, count)
    if not isinstance(inputs, list):
        _refuse("'inputs' is neither a list nor arrays by name", "inputs", inputs, _accepted(served))
    if served.takes == "arrays":
        _refuse("this artifact takes arrays by name", "inputs", inputs, _accepted(served))
    _count(len(inputs), max_inputs)
    one = _text if served.takes == "texts" else _image
    return Question([one(i, value) for i, value in enumerate(inputs)], top, len(inputs))  # type: ignore[arg-type]  # all of one kind


def _json(body: bytes) -> Any:
    if not body.strip():
        _refuse("the body is empty", "", None, "a JSON object with 'inputs'")
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise RequestError(400, f"the body is no UTF-8: {error.reason} at byte {error.start}", accepted="JSON in UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is no JSON: {error}", accepted="JSON in UTF-8") from error


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _count(count: int, most: int) -> None:
    if not 1 <= count <= most:
        _refuse("the number of inputs is out of its range", "inputs", count, f"1 to {most} inputs")


def _text(i: int, value: Any) -> str:
    if not isinstance(value, str):
        _refuse(f"input {i} is no text", f"inputs[{i}]", value, "a text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        _refuse(f"input {i} holds half of a character", f"inputs[{i}]", value, "text that UTF-8 can write")
    return str(value)


def _image(i: int, value: Any) -> bytes:
    if not isinstance(value, str):
        _refuse(f"input {i} is no image", f"inputs[{i}]", value, "a PNG or JPEG file in base64")
    try:
        decoded = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded:
        _refuse(f"input {i} is not base64", f"inputs[{i}]", value, "a PNG or JPEG file in base64")
    return decoded


def _arrays(inputs: Mapping[str, Any], wanted: Mapping[str, Any], native: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """``native``: of the data's size, which a model that takes smaller inputs is given as well."""
    for name in inputs:
        if name not in wanted:
            _refuse(f"unknown input {cut(name)!r}{near_miss(cut(name), wanted)}", f"inputs.{cut(name)}", inputs[name], ", ".join(wanted))
    found = {}
    for name, described in wanted.items():
        key, kind, shape = f"inputs.{name}", np.dtype(described["dtype"]), described["shape"]
        whole = native[name]["shape"]
        accepted = f"{kind} {json.dumps(shape)}" + ("" if whole == shape else f" or {json.dumps(whole)}, which is made smaller")
        if name not in inputs:
            _refuse(f"the input {name!r} is missing", key, None, accepted)
        try:
            value = np.asarray(inputs[name])
        except ValueError:
            _refuse(f"the rows of {name!r} differ in length", key, inputs[name], accepted)
        if value.dtype.kind not in ("iu" if kind.kind in "iu" else "b" if kind.kind == "b" else "iuf"):
            _refuse(f"{name!r} holds something else than {kind}", key, inputs[name], accepted)
        if 0 in value.shape or not any(_has(value, form) for form in (shape, whole)):
            _refuse(f"{name!r} has the shape {list(value.shape)}", key, None, accepted)
        if kind.kind in "iu" and not (np.iinfo(kind).min <= value.min() and value.max() <= np.iinfo(kind).max):
            _refuse(f"{name!r} holds numbers beyond {kind}", key, inputs[name], accepted)
        with np.errstate(over="ignore"):
            found[name] = value.astype(kind)
        odd = value[~np.isfinite(found[name])]
        if odd.size:
            _refuse(f"{name!r} holds numbers that are not finite as {kind}", key, odd[0].item(), accepted)
    if len({len(value) for value in found.values()}) > 1:
        sizes = ", ".join(f"{name}: {len(value)}" for name, value in found.items())
        _refuse(f"the inputs differ in their number of examples ({sizes})", "inputs", None, "the same number of each")
    return found


def _has(value: NDArray[Any], shape: list[Any]) -> bool:
    """Whether an array has a shape; names in it stand for any size."""
    return value.ndim == len(shape) and all(not isinstance(n, int) or n == m for n, m in zip(shape, value.shape, strict=True))


def _accepted(served: Served) -> str:
    arrays = "arrays by name: " + ", ".join(f"{name} {d['dtype']} {json.dumps(d['shape'])}" for name, d in served.signature["inputs"].items())
    return {"texts": f"a list of texts, or {arrays}", "images": f"a list of PNG or JPEG files in base64, or {arrays}"}.get(served.takes, arrays)


def _example(served: Served) -> str:
    shown = {"texts": '["a text"]', "images": '["BASE64"]'}.get(served.takes, '{"NAME": [...]}')
    return f'{{"inputs": {shown}, "top": 1}}'


def _refuse(message: str, key: str, value: Any, accepted: str) -> NoReturn:
    raise RequestError(400, message, key=key, value=value, accepted=accepted)
