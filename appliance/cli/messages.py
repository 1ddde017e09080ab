"""Protocol messages as plain documents for --json: the fields' own names, 64-bit numbers as numbers."""

from typing import Any

from google.protobuf.message import Message


def document(message: Message) -> dict[str, Any]:
    """Every field, also those at their default; a sub-message or an optional field that is not there is None."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type and field.message_type.GetOptions().map_entry:
        return dict(sorted(value.items()))
    if field.message_type and field.message_type.GetOptions().map_entry:
        return {str(key): item for key, item in sorted(value.items())}
    if field.is_repeated:
        return [document(item) for item in value] if field.message_type else list(value)
    if field.message_type:
        return document(value) if message.HasField(field.name) else None
    if field.has_presence and field.containing_oneof is not None and not message.HasField(field.name):
        return None
    if field.enum_type:
        return field.enum_type.values_by_number[value].name
    return value
