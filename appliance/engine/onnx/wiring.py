"""Which tensor of a chain of ONNX files goes where: decided from what the files say of themselves, before anything runs.

An input of a file takes the output that onnx.feeds names, else the latest earlier output of the same name, else it is an
input of the whole. The whole gives the outputs of the last file, and those of earlier ones that no later file takes.
Axis names are names of the chain: two files that write "N" mean the same, and where a tensor goes from "N" to "batch"
both are one axis.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

from appliance.engine.onnx.signature import Node
from appliance.errors import InvalidArgument

Axis = int | str | None


class StageNodes(NamedTuple):
    """What one file of a chain says of itself. ``defaults`` are inputs that have a value in the file."""

    name: str
    inputs: Sequence[Node]
    defaults: Sequence[Node]
    outputs: Sequence[Node]


class Joint(NamedTuple):
    """An input or output of the whole chain, as onnxruntime.NodeArg has them."""

    name: str
    type: str
    shape: list[Axis]


class Source(NamedTuple):
    """Where an input comes from: output ``name`` of file ``stage``, or with -1 the input ``name`` of the whole."""

    stage: int
    name: str


class Wiring(NamedTuple):
    """``sources``: for each file, input -> source. ``givers``: output of the whole -> the file that gives it."""

    sources: tuple[dict[str, Source], ...]
    givers: dict[str, int]
    inputs: list[Joint]
    defaults: list[Joint]
    outputs: list[Joint]


def wire(stages: Sequence[StageNodes], feeds: Mapping[str, str]) -> Wiring:
    """Raises InvalidArgument MODEL_FILE where onnx.feeds or the tensors of two files don't fit together."""
    axes = _Axes()
    sources = _sources(stages, feeds)
    _check_feeds(stages, feeds, sources)
    for index, stage in enumerate(stages):
        for node in (*stage.inputs, *stage.defaults):
            source = sources[index].get(node.name)
            if source is not None and source.stage >= 0:
                _join(axes, stages[source.stage], _output(stages[source.stage], source.name), stage, node)
    givers = _givers(stages, sources)
    required, defaults = _whole_inputs(axes, stages, sources)
    gives = [axes.joint(_output(stages[index], name)) for name, index in givers.items()]
    return Wiring(sources, givers, [axes.joint(n) for n in required], [axes.joint(n) for n in defaults], gives)


def _sources(stages: Sequence[StageNodes], feeds: Mapping[str, str]) -> tuple[dict[str, Source], ...]:
    latest: dict[str, int] = {}
    result = []
    for index, stage in enumerate(stages):
        of: dict[str, Source] = {}
        for node in (*stage.inputs, *stage.defaults):
            output = feeds.get(node.name, node.name)
            if output in latest:
                of[node.name] = Source(latest[output], output)
            elif node.name in latest:
                of[node.name] = Source(latest[node.name], node.name)
            else:
                of[node.name] = Source(-1, node.name)
        result.append(of)
        latest |= {node.name: index for node in stage.outputs}
    return tuple(result)


def _check_feeds(
    stages: Sequence[StageNodes], feeds: Mapping[str, str], sources: Sequence[Mapping[str, Source]]
) -> None:
    """A feed that feeds nothing is a typing error in model.toml."""
    for name, output in feeds.items():
        taken = [of[name] for of in sources if name in of]
        if any(source.stage >= 0 and source.name == output for source in taken):
            continue
        if not taken:
            later = sorted({node.name for stage in stages[1:] for node in (*stage.inputs, *stage.defaults)})
            _refuse(f"onnx.feeds names the input {name!r}; the later files take {', '.join(map(repr, later))}")
        earlier = sorted({node.name for stage in stages[:-1] for node in stage.outputs})
        _refuse(
            f"onnx.feeds: the input {name!r} is to come from {output!r}, which no file before it gives;"
            f" the earlier files give {', '.join(map(repr, earlier))}"
        )


def _output(stage: StageNodes, name: str) -> Node:
    return next(node for node in stage.outputs if node.name == name)


def _join(axes: "_Axes", giver: StageNodes, gives: Node, taker: StageNodes, takes: Node) -> None:
    where = f"output {gives.name!r} of {giver.name!r} goes to input {takes.name!r} of {taker.name!r}"
    if not gives.type.startswith("tensor("):
        _refuse(f"{where}, but it is a {gives.type}: only tensors go from file to file")
    if gives.type != takes.type:
        _refuse(f"{where}, which takes {takes.type}, not {gives.type}: add a Cast at the end of the first file")
    # [] is a scalar or a rank that nobody knows; ONNX Runtime doesn't tell which.
    if not gives.shape or not takes.shape:
        return
    if len(gives.shape) != len(takes.shape) or not all(map(axes.same, gives.shape, takes.shape)):
        _refuse(f"{where}: {_shown(gives.shape)} doesn't fit {_shown(takes.shape)}")


def _givers(stages: Sequence[StageNodes], sources: Sequence[Mapping[str, Source]]) -> dict[str, int]:
    taken = {source for of in sources for source in of.values()}
    last = len(stages) - 1
    result = {node.name: last for node in stages[last].outputs}
    for index in range(last - 1, -1, -1):
        for node in stages[index].outputs:
            if Source(index, node.name) not in taken:
                result.setdefault(node.name, index)
    return result


def _whole_inputs(
    axes: "_Axes", stages: Sequence[StageNodes], sources: Sequence[Mapping[str, Source]]
) -> tuple[list[Node], list[Node]]:
    """The inputs that clients give, required and with a default; two files may take the same one."""
    first: dict[str, tuple[StageNodes, Node]] = {}
    required: list[Node] = []
    defaults: list[Node] = []
    for has_default in (False, True):
        for index, stage in enumerate(stages):
            for node in stage.defaults if has_default else stage.inputs:
                if sources[index][node.name].stage >= 0:
                    continue
                if node.name not in first:
                    first[node.name] = (stage, node)
                    (defaults if has_default else required).append(node)
                    continue
                other, twin = first[node.name]
                if twin.type != node.type or len(twin.shape) != len(node.shape):
                    fits = False
                else:
                    fits = all(map(axes.same, twin.shape, node.shape))
                if not fits:
                    _refuse(
                        f"input {node.name!r} is {twin.type} {_shown(twin.shape)} in {other.name!r}, but {node.type}"
                        f" {_shown(node.shape)} in {stage.name!r}: give one of them another name"
                    )
    return required, defaults


class _Axes:
    """Which axis names are one axis, and which have turned out to be of a fixed length."""

    def __init__(self) -> None:
        self._parents: dict[str, int | str] = {}

    def root(self, axis: int | str) -> int | str:
        while isinstance(axis, str) and axis in self._parents:
            axis = self._parents[axis]
        return axis

    def same(self, one: Axis, other: Axis) -> bool:
        """Notes that both are one axis; False when they can't be."""
        if _says_nothing(one) or _says_nothing(other):
            return True
        a, b = self.root(one), self.root(other)  # type: ignore[arg-type]  # None says nothing
        if a == b:
            return True
        if isinstance(b, str):
            self._parents[b] = a
        elif isinstance(a, str):
            self._parents[a] = b
        else:
            return False
        return True

    def joint(self, node: Node) -> Joint:
        shape = [axis if axis is None or _says_nothing(axis) else self.root(axis) for axis in node.shape]
        return Joint(node.name, node.type, shape)


def _says_nothing(axis: Axis) -> bool:
    """Names that shape inference invents are each file's own."""
    return axis is None or (isinstance(axis, str) and (not axis or axis.startswith("unk__")))


def _shown(shape: Sequence[Axis]) -> str:
    return "[" + ", ".join("?" if axis is None else str(axis) for axis in shape) + "]"


def _refuse(message: str) -> NoReturn:
    raise InvalidArgument(message, reason="MODEL_FILE")
