"""Which DNS-SD instance stands for which node: one instance for each node, the latest. Pure.

A goodbye names an instance, the directory knows nodes. Since a node has one instance at a time,
the goodbye of an instance that has been superseded means nothing.
"""


class Instances:
    """Instance names, compared without case, and the nodes they stand for."""

    def __init__(self) -> None:
        self._node_of: dict[str, str] = {}
        self._name_of: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._node_of)

    def bind(self, name: str, node_id: str) -> str | None:
        """Let `name` stand for a node from now on; return another node it stood for before."""
        key = name.lower()
        former_name = self._name_of.get(node_id)
        if former_name == key:
            return None
        if former_name is not None:
            del self._node_of[former_name]
        displaced = self._node_of.get(key)
        if displaced is not None:
            del self._name_of[displaced]
        self._node_of[key] = node_id
        self._name_of[node_id] = key
        return displaced

    def release(self, name: str) -> str | None:
        """Let `name` stand for nothing; return the node it stood for."""
        node_id = self._node_of.pop(name.lower(), None)
        if node_id is not None:
            del self._name_of[node_id]
        return node_id
