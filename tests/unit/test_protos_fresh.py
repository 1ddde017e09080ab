"""The generated code is that of protos/, and our protocol is the public one, field by field.

Both our stubs and tritonclient's register messages of the package ``inference`` in protobuf's one pool of the process,
and it refuses the second: whatever needs both runs one of them in a process of its own.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor

from appliance.pb.inference import grpc_service_pb2, model_config_pb2

ROOT = Path(__file__).resolve().parents[2]

_THEIRS = """
import json, sys
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2
files = []
for module in (service_pb2, model_config_pb2):
    proto = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(proto)
    files.append(proto.SerializeToString().hex())
json.dump(files, sys.stdout)
"""


def test_generated_code_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/gen_protos", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _public(tmp_path: Path) -> list[FileDescriptor]:
    from google.protobuf import descriptor_pb2, descriptor_pool

    done = subprocess.run([sys.executable, "-c", _THEIRS], capture_output=True, text=True, check=True, cwd=tmp_path)
    pool = descriptor_pool.DescriptorPool()
    files = [descriptor_pb2.FileDescriptorProto.FromString(bytes.fromhex(text)) for text in json.loads(done.stdout)]
    for file in reversed(files):
        pool.Add(file)
    return [pool.FindFileByName(file.name) for file in files]


def _fields(message: Descriptor) -> dict[str, Any]:
    return {
        f.name: (
            f.number,
            f.type,
            f.is_repeated,
            f.containing_oneof.name if f.containing_oneof else None,
            f.message_type.full_name if f.message_type else None,
            f.enum_type.full_name if f.enum_type else None,
        )
        for f in message.fields
    }


def _all(messages: Any) -> dict[str, Descriptor]:
    found: dict[str, Descriptor] = {}
    for message in messages:
        found[message.full_name] = message
        found |= _all(message.nested_types)
    return found


def _values(enum: EnumDescriptor) -> dict[str, int]:
    return {value.name: value.number for value in enum.values}


def test_the_service_is_the_public_one(tmp_path: Path) -> None:
    service, _ = _public(tmp_path)
    ours = grpc_service_pb2.DESCRIPTOR
    theirs_all, ours_all = _all(service.message_types_by_name.values()), _all(ours.message_types_by_name.values())
    assert {n: _fields(m) for n, m in ours_all.items()} == {n: _fields(m) for n, m in theirs_all.items()}
    methods = [
        {
            m.name: (m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming)
            for m in file.services_by_name["GRPCInferenceService"].methods
        }
        for file in (ours, service)
    ]
    assert methods[0] == methods[1]
    assert len(methods[0]) == 20


def test_what_we_say_of_a_model_is_part_of_the_public_configuration(tmp_path: Path) -> None:
    _, config = _public(tmp_path)
    theirs, ours = (
        _all(config.message_types_by_name.values()),
        _all(model_config_pb2.DESCRIPTOR.message_types_by_name.values()),
    )
    assert "inference.ModelConfig" in ours
    for name, message in ours.items():
        public = _fields(theirs[name])
        for field, description in _fields(message).items():
            assert description == public[field], (name, field)
        for enum in message.enum_types:
            assert _values(enum) == _values(theirs[name].enum_types_by_name[enum.name])
    data_type = config.enum_types_by_name["DataType"]
    assert _values(model_config_pb2.DESCRIPTOR.enum_types_by_name["DataType"]) == _values(data_type)
