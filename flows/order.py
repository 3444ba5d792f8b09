"""What comes before what in a flow, as TaskFlow would run it."""

from taskflow.engines.action_engine.compiler import TASK, PatternCompiler
from taskflow.flow import Flow

__all__ = ["predecessors"]


def predecessors(flow: Flow) -> dict[str, set[str]]:
    """For each task of a flow, in an order in which they may begin, those that have to be done before it."""
    graph = PatternCompiler(flow).compile().execution_graph
    tasks = [node for node in graph.topological_sort() if graph.nodes[node]["kind"] == TASK]
    return {
        task.name: {before.name for before in graph.bfs_predecessors_iter(task) if before in tasks}
        for task in tasks
    }
