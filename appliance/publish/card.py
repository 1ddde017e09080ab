"""The card: what only the publisher can say, which must be said, and what the model itself tells."""

import importlib.metadata
from collections.abc import Sequence
from typing import Any

import msgspec

from appliance.errors import InvalidArgument
from appliance.model_spec import Card
from appliance.publish.estimators import Subject, last_step, leaves
from appliance.publish.table import check_text

_PARAMETERS_CHARS_MAX = 1000
_COLUMNS_CHARS_MAX = 4000
_ASKED = {
    "licence": "under which terms the model may be used, and its data were",
    "source": "who trained it, with what, on which data",
    "intended_use": "what it is for",
    "limits": "what it is not for, and how often it is wrong",
}


class CardTexts(msgspec.Struct, frozen=True, kw_only=True):
    """What the publisher says; the first four are needed, ``description`` is one or two sentences."""

    licence: str = ""
    source: str = ""
    intended_use: str = ""
    limits: str = ""
    description: str = ""


def check(texts: CardTexts) -> None:
    """Raises InvalidArgument CARD, naming everything that is still missing."""
    missing = [f"{name} ({why})" for name, why in _ASKED.items() if not getattr(texts, name).strip()]
    if missing:
        raise InvalidArgument(
            f"the card must say more, for whoever uses the model has to know: {'; '.join(missing)}", reason="CARD"
        )
    for name in (*_ASKED, "description"):
        check_text(getattr(texts, name), f"the card's {name}")


def card(texts: CardTexts, subject: Subject, facts: Sequence[str]) -> Card:
    """The card with the model's own facts behind the publisher's description."""
    described = " ".join(filter(None, [texts.description.strip(), made_with(subject), *facts]))
    return Card(
        licence=texts.licence.strip(),
        source=texts.source.strip(),
        intended_use=texts.intended_use.strip(),
        limits=texts.limits.strip(),
        description=described,
    )


def made_with(subject: Subject) -> str:
    """As in "Pipeline of StandardScaler, SVC(C=2.0); exported with scikit-learn 1.7.2, skl2onnx 1.20.0"."""
    steps = [type(step).__name__ for _, step in leaves(subject.estimator)][:-1]
    last = last_step(subject.estimator)
    text = f"{type(last).__name__}({_parameters(last)})"
    text = f"Pipeline of {', '.join([*steps, text])}" if steps else text
    families = {"sklearn": "scikit-learn", "xgboost": "xgboost", "lightgbm": "lightgbm"}
    used = {type(step).__module__.split(".")[0] for _, step in leaves(subject.estimator)}
    names = [*(families[f] for f in families if f in used), "skl2onnx"]
    if used & {"xgboost", "lightgbm"}:
        names.append("onnxmltools")
    versions = [f"{name} {version}" for name in names if (version := _version(name))]
    return f"{text}; exported with {', '.join(versions)}."


def _version(package: str) -> str:
    # Two packages bring the module xgboost.
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def _parameters(estimator: Any) -> str:
    """Those that aren't the class's defaults, as one would write them."""
    given = estimator.get_params(deep=False) if hasattr(estimator, "get_params") else {}
    try:
        default = type(estimator)().get_params(deep=False)
    except Exception:  # some can't be made without arguments
        default = {}
    plain = {k: v for k, v in given.items() if isinstance(v, str | int | float | bool | tuple | list | None.__class__)}
    text = ", ".join(f"{k}={v!r}" for k, v in plain.items() if k not in default or repr(v) != repr(default[k]))
    return text if len(text) <= _PARAMETERS_CHARS_MAX else text[:_PARAMETERS_CHARS_MAX] + "…"


def columns_text(names: Sequence[str]) -> str:
    """Which column is where in the one input; a client can't see it in the tensor's shape."""
    text = ", ".join(names)
    text = text if len(text) <= _COLUMNS_CHARS_MAX else text[:_COLUMNS_CHARS_MAX] + "…"
    return f"Columns in order: {text}."
