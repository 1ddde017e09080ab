"""The model card as a page for people, out of what model.toml says."""

from appliance.model_spec import ModelSpec

FILE_NAME = "MODEL_CARD.md"


def build(spec: ModelSpec) -> bytes:
    """Markdown; the same folder gives the same bytes."""
    card = spec.card
    parts = [f"# {spec.name} {spec.version}"]
    if card.description:
        parts.append(card.description)
    sections = {
        "Licence": card.licence,
        "Source": card.source,
        "Intended use": card.intended_use,
        "Limits": card.limits,
        "Proof": _golden(spec),
    }
    parts += [f"## {title}\n\n{text}" for title, text in sections.items()]
    return ("\n\n".join(parts) + "\n").encode()


def _golden(spec: ModelSpec) -> str:
    if not spec.golden:
        return "No golden tests: nothing shows on a box that the model answers as it did here."
    names = ", ".join(test.name for test in spec.golden)
    return f"{len(spec.golden)} golden tests run on every box before the model serves: {names}."
