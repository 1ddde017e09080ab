"""Registers a servicer with the server: the one place where requests are parsed and failures become statuses.

The generated registration would answer bytes that don't parse (or a string that isn't UTF-8) with INTERNAL and without
a word; this one says INVALID_ARGUMENT and why. Servicers just raise ApplianceError.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError

from appliance import limits
from appliance.errors import ApplianceError, Cancelled, InvalidArgument
from appliance.serve import convert, status, wire
from appliance.serve.failed import asked_of
from appliance.serve.gate import Gate

# Messages that are not parsed by protobuf alone.
_PARSERS: dict[str, Callable[[bytes], Any]] = {"inference.ModelInferRequest": convert.parse_request}
# Below this no number of fields is worth a look.
_LARGE_BYTES = 32 * 1024


class Malformed(NamedTuple):
    """Stands for a request that could not be parsed."""

    error: InvalidArgument


def well_formed(request: Any) -> Any:
    """What ``parser`` made of bytes; raises the InvalidArgument of those that it could not parse."""
    if type(request) is Malformed:
        raise request.error
    return request


def generic_handler(service: ServiceDescriptor, servicer: object, gate: Gate) -> grpc.GenericRpcHandler:
    """All methods of ``service``, answered by the methods of ``servicer`` that have their names."""
    methods = {m.name: _method_handler(m, getattr(servicer, m.name), gate) for m in service.methods}
    return grpc.method_handlers_generic_handler(service.full_name, methods)


def _method_handler(
    method: MethodDescriptor, behaviour: Callable[..., Any], gate: Gate
) -> "grpc.RpcMethodHandler[Any, Any]":
    parse = parser(method)
    if method.server_streaming:
        guarded = _guard_stream(behaviour, gate, method.client_streaming)
        make = (
            grpc.stream_stream_rpc_method_handler if method.client_streaming else grpc.unary_stream_rpc_method_handler
        )
        return make(guarded, parse, _serialize)
    assert not method.client_streaming  # no service of ours has a call of this kind
    return grpc.unary_unary_rpc_method_handler(_guard_unary(behaviour, gate), parse, _serialize)


def _serialize(response: Any) -> bytes:
    """A servicer may have made the bytes itself, where that saves copies of large tensors."""
    if type(response) is bytes:
        return response
    return response.SerializeToString()  # type: ignore[no-any-return]  # every other response is a protobuf message


def parser(method: MethodDescriptor) -> Callable[[bytes], Any]:
    """Makes a request of bytes, or ``Malformed``."""
    from_string = _PARSERS.get(method.input_type.full_name)
    if from_string is None:
        from_string = message_factory.GetMessageClass(method.input_type).FromString
    name = method.input_type.name

    def parse(data: bytes) -> Any:
        if len(data) > _LARGE_BYTES and wire.has_countless_fields(data):
            text = f"the request is not a valid {name}: it has more than {limits.message_fields_max} fields"
            return Malformed(InvalidArgument(text, reason="MALFORMED"))
        try:
            return from_string(data)
        except DecodeError:
            text = f"the request is not a valid {name}: not protobuf, or a string in it is not UTF-8"
            return Malformed(InvalidArgument(text, reason="MALFORMED"))

    return parse


def _guard_unary(behaviour: Callable[[Any, grpc.ServicerContext], Any], gate: Gate) -> Callable[..., Any]:
    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            gate.enter()
            try:
                return behaviour(well_formed(request), context)
            finally:
                gate.leave()
        except ApplianceError as error:
            status.fail(context, error, asked_of(request))
        except Exception:  # whatever it is, the client gets INTERNAL and the log the traceback
            status.fail_internal(context, asked_of(request))

    return handle


def _guard_stream(behaviour: Callable[..., Iterator[Any]], gate: Gate, client_streams: bool) -> Callable[..., Any]:
    def handle(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            gate.enter()
            try:
                yield from behaviour(_checked(request) if client_streams else well_formed(request), context)
            finally:
                gate.leave()
        except ApplianceError as error:
            status.fail(context, error, asked_of(request))
        except Exception:  # as above
            status.fail_internal(context, asked_of(request))

    return handle


def _checked(requests: Iterator[Any]) -> Iterator[Any]:
    while True:
        try:
            request = next(requests)
        except StopIteration:
            return
        except grpc.RpcError as error:
            raise Cancelled("the caller went away") from error
        yield well_formed(request)
