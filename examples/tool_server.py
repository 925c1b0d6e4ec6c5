"""
A tool for language models: run Python in a sandbox, over the Model Context Protocol (stdio).

    python examples/tool_server.py

A client starts it as a program, for example with this entry in its configuration:

    {"mcpServers": {"python": {"command": "sudo", "args": ["python", "examples/tool_server.py"]}}}

State stays from one call to the next, as in a notebook: variables, imports, files in /work. What
the model writes has no network and sees nothing of the host.
"""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer

import pycontain

server = MCPServer("python")
box = pycontain.Sandbox(memory="512M", disk="64M", timeout=10, output="256K")
_sessions: list[pycontain.Session] = []


def session() -> pycontain.Session:
    """The interpreter, a new one if the last has ended."""
    if not _sessions or _sessions[-1].ended:
        _sessions[:] = [box.session()]
    return _sessions[-1]


@server.tool()
async def run_python(code: str) -> str:
    """Run Python code and return what it prints, and the value of its last expression."""
    python = session()
    result = await python.run_async(code)
    parts = [result.text, result.stderr.decode(errors="replace"), result.shown]
    if python.ended:
        parts.append(f"[the interpreter has ended: {result.reason}; its variables are lost]")
    return "\n".join(part.rstrip() for part in parts if part) or "(no output)"


@server.tool()
def write_file(path: str, content: str) -> str:
    """Write a text file below /work."""
    box.write(path, content.encode())
    return f"{len(content)} characters"


@server.tool()
def read_file(path: str) -> str:
    """Read a text file below /work."""
    return box.read(path, limit=1 << 20).decode(errors="replace")


if __name__ == "__main__":
    with box:
        server.run()
