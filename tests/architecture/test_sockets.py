"""Who opens connections: rooms that judge where they lead, or that only ever go where the operator said."""

import ast
import re

from tests.architecture.sources import OWN_PACKAGES, package, python_files, relative, tree

OPENS = re.compile(
    r"(?:^|\.)(?:socket|create_connection|open_connection|start_connection|sock_connect|create_datagram_endpoint)$"
)
MAY_OPEN = {
    "infery_site/fetch/dialling.py": "addresses that somebody gave, each of them judged",
    "infery_site/fetch/exchange.py": "a socket that dialling connected",
    "files/sandbox/programs/probe.py": "no connection: asks the system whether there is a way out of a child",
    "chat/upstream/dialling.py": "providers, by address",
}


def test_nobody_else_opens_a_connection():
    """S10."""
    found = {
        relative(path)
        for path in python_files()
        if package(path) in OWN_PACKAGES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and OPENS.search(ast.unparse(node.func))
    }
    assert found == set(MAY_OPEN)
