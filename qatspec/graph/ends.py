"""The end of a forward that differs between training and evaluation.

Both modes share the network before it. What only one mode computes of the network's tensors is not
quantized: the decoding of boxes in evaluation, the auxiliary heads in training.
"""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from qatspec.graph.module import TracedModule
from qatspec.graph.sizes import is_plain

#: In a node's meta: evaluation alone computes it, behind the network.
POST_PROCESS = "post_process"


def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Call a module that is an argument of a graph."""
    return module(*args, **kwargs)


class Ends(nn.Module):
    """Two graphs that take the same arguments: tensors and sizes of the network, and the
    parameters and modules that they use, which stay at their paths in the model."""

    def __init__(self, training: fx.Graph, evaluation: fx.Graph) -> None:
        super().__init__()
        self.in_training = TracedModule(nn.Module(), training)
        self.in_evaluation = TracedModule(nn.Module(), evaluation)

    def forward(self, *read: Any) -> Any:
        """Return what the model returns in the present mode."""
        return (self.in_training if self.training else self.in_evaluation)(*read)

    def read_in_evaluation(self) -> list[bool]:
        """Return for each argument whether evaluation reads its numbers, and not only its size."""
        graph = self.in_evaluation.graph
        reads = {graph.output_node()}
        for node in reversed(graph.nodes):
            if node in reads and not is_plain(node.meta.get("example")):
                reads.update(node.all_input_nodes)
        return [n in reads for n in graph.nodes if n.op == "placeholder"]
