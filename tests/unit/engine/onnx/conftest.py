"""ONNX models made on the spot, and a driver that runs one call through an engine."""

import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from appliance.calls import InferCall, OutputWanted
from appliance.engine import arrays
from appliance.engine.base import LoadOptions
from appliance.engine.golden import CollectingReply
from appliance.engine.onnx.load import load
from appliance.model_spec import Card, ModelFile, ModelLimits, ModelSpec, OnnxOptions
from appliance.tensor_heads import split_body

CARD = Card(licence="none", source="a test", intended_use="tests", limits="tests")


class Bench:
    """A model folder, and what can be done with it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.types = TensorProto
        self.helper = helper

    def graph(self, nodes, inputs, outputs, initializers=(), opset=21, functions=(), extra_opsets=()):
        """Bytes of a model; inputs and outputs are (name, type, shape)."""
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes,
            "g",
            [value(*i) for i in inputs],
            [o if not isinstance(o, tuple) else value(*o) for o in outputs],
            list(initializers),
        )
        opsets = [helper.make_opsetid("", opset), *extra_opsets]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))
        return model.SerializeToString()

    def identity(self, kind=TensorProto.FLOAT, shape=("N",)):
        return self.graph([helper.make_node("Identity", ["x"], ["y"])], [("x", kind, shape)], [("y", kind, shape)])

    def spec(self, files=(), queue_max=0, **options):
        return ModelSpec(
            name="m",
            version="1.0.0",
            engine="onnx",
            card=CARD,
            onnx=OnnxOptions(**options),
            files=(ModelFile(path="m.onnx"), *files),
            limits=ModelLimits(max_queue=queue_max),
        )

    def load(self, model: bytes, files=(), threads=1, **options):
        (self.folder / "m.onnx").write_bytes(model)
        return load(self.spec(files, **options), self.folder, LoadOptions(threads=threads))

    def reply(self):
        return CollectingReply(time.monotonic_ns())

    def tensor(self, name, datatype, values, shape=None):
        dtype = object if datatype == "BYTES" else arrays.NUMPY_TYPES[datatype]
        array = np.array(values, dtype=dtype)
        return arrays.to_tensor(name, datatype, array if shape is None else array.reshape(shape))

    def infer(self, engine, tensors, outputs=(), **call):
        """The answer's tensors by name; raises the error that the call ended with."""
        reply = self.reply()
        wanted = tuple(OutputWanted(o) if isinstance(o, str) else OutputWanted(*o) for o in outputs)
        engine.submit(InferCall(outputs=wanted, **call), list(tensors), reply)
        assert engine.has_work()
        engine.step()
        assert reply.done
        if reply.error:
            raise reply.error
        assert len(reply.buffers) == len(reply.answers[0].tensors)
        body = memoryview(b"".join(reply.buffers))
        return {t.name: t for t in split_body(reply.answers[0].tensors, body)}

    @staticmethod
    def strings(tensor):
        return [e.decode() for e in arrays.decode_elements(tensor)]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)
