"""Calls through an ONNX engine, many at once or one after the other, and their answers in a form to compare."""

import time

from appliance.answers import InferDone
from appliance.calls import InferCall, OutputWanted
from appliance.engine.golden import CollectingReply
from appliance.errors import ApplianceError


class Request:
    """Tensors, and whatever else an InferCall has; ``outputs`` are names or (name, classification)."""

    def __init__(self, *tensors, outputs=(), **fields):
        wanted = tuple(OutputWanted(o) if isinstance(o, str) else OutputWanted(*o) for o in outputs)
        self.tensors = list(tensors)
        self.call = InferCall(outputs=wanted, **fields)

    def submit(self, engine, arrived_ns=None):
        reply = CollectingReply(time.monotonic_ns() if arrived_ns is None else arrived_ns)
        engine.submit(self.call, list(self.tensors), reply)
        return reply


def finish(engine, replies):
    """Steps until all are answered; how many steps that took."""
    steps = 0
    while not all(reply.done for reply in replies):
        assert engine.has_work()
        engine.step()
        steps += 1
        assert steps < 10_000
    return steps


def answer(reply):
    """{name: (datatype, shape, bytes)}, or the error."""
    if reply.error is not None:
        assert not reply.answers
        return reply.error
    (done,) = reply.answers
    assert isinstance(done, InferDone)
    assert [head.nbytes for head in done.tensors] == [len(b) for b in reply.buffers]
    return {
        head.name: (head.datatype, head.shape, bytes(data))
        for head, data in zip(done.tensors, reply.buffers, strict=True)
    }


def at_once(engine, requests):
    """Their answers when all of them wait before the first step."""
    replies = [request.submit(engine) for request in requests]
    finish(engine, replies)
    return [answer(reply) for reply in replies]


def each_alone(engine, requests):
    """Their answers one after the other."""
    answers = []
    for request in requests:
        try:
            reply = request.submit(engine)
        except ApplianceError as error:
            answers.append(error)
            continue
        finish(engine, [reply])
        answers.append(answer(reply))
    return answers


def sizes(engine):
    """Runs by their number of rows, since the load."""
    return engine.stats().batch_sizes
