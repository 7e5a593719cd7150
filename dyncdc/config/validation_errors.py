"""What validation found wrong, said in one line for people. Never repeats a value, which may be a secret."""

from __future__ import annotations

import difflib
import typing
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_REPLACED = {
    "missing": "is missing",
    "model_type": "must be a table of keys",
    "model_attributes_type": "must be a table of keys",
    "tuple_type": "must be a list",
    "string_type": "must be text",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "string_pattern_mismatch": "must be 1 to 64 of a-z 0-9 _ -",
}


@dataclass(frozen=True, slots=True)
class InvalidSetting:
    """One wrong key: its path, the sentence about it, and what to write instead."""

    key: str
    text: str
    hint: str = ""


def first_mistake(model: type[BaseModel], error: ValidationError) -> InvalidSetting:
    """The mistake to fix first: an unknown key before what may only follow from it."""
    details = error.errors(include_url=False, include_input=False)
    if any(detail["type"] == "extra_forbidden" for detail in details):
        # a misspelt key also makes the right one missing: one mistake, not two
        details = [detail for detail in details if detail["type"] != "missing"]
        details.sort(key=lambda detail: detail["type"] != "extra_forbidden")
    mistake = _mistake(model, details[0])
    if len(details) == 1:
        return mistake
    return InvalidSetting(mistake.key, f"{mistake.text} (and {len(details) - 1} more)", mistake.hint)


def _mistake(model: type[BaseModel], detail: ErrorDetails) -> InvalidSetting:
    unknown = detail["type"] == "extra_forbidden"
    key, holder = _path(model, detail["loc"][:-1] if unknown else detail["loc"])
    if unknown:
        name = str(detail["loc"][-1])
        path = f"{key}.{name}" if key else name
        return InvalidSetting(path, f"unknown key {path}", _nearest(name, holder))
    text = _REPLACED.get(detail["type"])
    if text is None:
        text = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return InvalidSetting(
        key,
        f"{key} {text}"
        if text.startswith(("must ", "is ", "needs ", "names ", "takes "))
        else f"{key}: {text}".lstrip(": "),
    )


def _nearest(name: str, holder: type[BaseModel] | None) -> str:
    if holder is None:
        return ""
    names = [field.alias or key for key, field in holder.model_fields.items()]
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"keys here: {', '.join(names)}"


def _path(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, type[BaseModel] | None]:
    """Write pydantic's location as a key path, without the tags of unions; also return the model it leads to."""
    path = ""
    here: type[BaseModel] | None = model
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
            continue
        fields = {field.alias or key: field for key, field in here.model_fields.items()} if here else {}
        if step in fields:
            path += f".{step}" if path else step
            here = model_in(fields[step].annotation)
    return path, here


def model_in(annotation: object) -> type[BaseModel] | None:
    """The model inside an annotation, if there is one: of a section, a list of tables, a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := model_in(part))), None)
