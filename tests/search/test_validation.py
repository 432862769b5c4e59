from typing import Annotated, Any, Literal

import pydantic
import pytest

from search.validation import field_names, problems_of


class Inner(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    epochs: Annotated[int, pydantic.Field(gt=0)] = 1
    schedule: Literal["cosine", "linear"] = "cosine"

    @pydantic.field_validator("epochs")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("epochs are counted in pairs")
        return value


class Outer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    ratio: Annotated[float, pydantic.Field(le=1)] | dict[Literal["channels", "ffn"], Annotated[float, pydantic.Field(le=1)]] = 0.0
    needed: int


def found(data: Any) -> dict[tuple[str | int, ...], str]:
    with pytest.raises(pydantic.ValidationError) as caught:
        Outer.model_validate(data)
    return dict(problems_of(caught.value, data, Outer))


def test_unknown_keys_list_the_fields_of_their_place() -> None:
    said = found({"needed": 1, "inner": {"epoch": 2}, "many": [{}, {"shedule": "linear"}]})
    assert said["inner", "epoch"] == "unknown key 'epoch'; accepted: epochs, schedule; did you mean 'epochs'?"
    assert said["many", 1, "shedule"].endswith("did you mean 'schedule'?")


def test_missing_literal_and_own_messages() -> None:
    said = found({"inner": {"epochs": 3, "schedule": "cosin"}})
    assert said["needed",] == "missing"
    assert said["inner", "schedule"] == "'cosin' is not accepted; accepted: 'cosine' or 'linear'; did you mean 'cosine'?"
    assert said["inner", "epochs"] == "epochs are counted in pairs, got 3"


def test_a_union_speaks_once_and_of_the_member_that_was_meant() -> None:
    assert list(found({"needed": 1, "ratio": {"channels": 2}})) == [("ratio", "channels")]
    assert list(found({"needed": 1, "ratio": 2})) == [("ratio",)]
    assert "less than or equal to 1" in found({"needed": 1, "ratio": 2})["ratio",]


def test_field_names_follow_the_types() -> None:
    assert field_names(Outer) == ("inner", "many", "ratio", "needed")
    assert field_names(Outer, ("many", 0)) == ("epochs", "schedule")
    assert field_names(Outer, ("ratio", "channels")) == ()
