"""A network as one function of TensorFlow's, its weights inside: what has no layers that Keras knows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# Operations that read, write, or run something: no network computes with them.
_REACHING = re.compile(
    r"PyFunc|ReadFile|WriteFile|MatchingFiles|Reader|Dataset|SaveV?\d?$|SaveSlices|Restore|Checkpoint|Rpc|Print|Debug|"
    r"LoadLibrary|CollectiveReduce|Send$|Recv$"
)


@dataclass(frozen=True)
class Frozen:
    """A graph without variables. `graph`: a serialized GraphDef; `input` and `outputs`: tensors by name."""

    graph: bytes
    input: str
    outputs: dict[str, str]
    shape: tuple[int | None, ...]


def is_reaching(operation: str) -> bool:
    """Whether an operation of TensorFlow's reaches outside of the graph that it stands in."""
    return bool(_REACHING.search(operation))


def list_reaching(nodes: Iterable[Any]) -> list[str]:
    """The operations among a graph's nodes that reach outside of it."""
    return sorted({node.op for node in nodes if is_reaching(node.op)})


def freeze_function(function: Any, names: list[str]) -> Frozen:
    """Freeze a concrete function of one image tensor, its outputs called by `names`.

    Raises ValueError where it takes something else, or reaches outside of the graph.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(function, aggressive_inlining=True)
    graph = frozen.graph.as_graph_def()
    held = {id(inside): outside for outside, inside in frozen.graph.captures}
    images = [tensor for tensor in frozen.inputs if id(tensor) not in held]
    if len(images) != 1:
        raise ValueError(f"it takes {len(images)} inputs, not one image")
    for tensor in frozen.inputs:
        if id(tensor) in held:
            _hold_constant(graph, tensor.op.name, held[id(tensor)])
    if reaching := list_reaching(_list_nodes(graph)):
        raise ValueError(f"its graph uses {', '.join(reaching)}, which reaches outside of it")
    outputs = [tensor.name for tensor in frozen.outputs]
    return Frozen(
        graph.SerializeToString(),
        images[0].name,
        dict(zip(names, outputs, strict=True)),
        tuple(images[0].shape),
    )


def _hold_constant(graph: Any, name: str, value: Any) -> None:
    """Make a placeholder that stands for a captured constant that constant."""
    import tensorflow

    node = next(node for node in graph.node if node.name == name)
    kind = node.attr["dtype"].type
    node.Clear()
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = kind
    node.attr["value"].tensor.CopyFrom(tensorflow.make_tensor_proto(value))


def _list_nodes(graph: Any) -> list[Any]:
    return [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
